// Tracking: person numbers that stay the same from picture to picture.
// The same rules as kinegraph/video/tracking.py.

import { assign } from "./assignment.js";

/** @import { Pose, PoseFrame, TrackedPose, TrackerSettings } from "./types.js" */

const NO_MATCH = 1e6; // cost above any distance

/**
 * A person seen recently; `joints` are the last detection of each.
 * @typedef {{number: number, joints: Float64Array, size: number, time: number}} Track
 */

export class Tracker {
  /** @param {TrackerSettings} settings */
  constructor(settings) {
    this.settings = settings;
    /** @type {Track[]} */
    this.tracks = [];
    this.count = 0;
  }

  /**
   * Return the persons of the next picture; numbers start at 1 and are never reused.
   * @param {PoseFrame} frame
   * @returns {TrackedPose[]}
   */
  update(frame) {
    const { persons, gap } = this.settings;
    this.tracks = this.tracks.filter((track) => frame.time - track.time <= gap);
    const sizes = frame.poses.map((pose) => measureSize(pose, frame));
    const order = [...sizes.keys()].filter((m) => sizes[m] > 0).sort((a, b) => sizes[b] - sizes[a]);
    const taken = this.match(frame, order);
    const unmatched = order.filter((m) => !taken.has(m)).slice(0, Math.max(persons - taken.size, 0));
    for (const m of unmatched.sort((a, b) => a - b)) {
      this.count += 1;
      const track = { number: this.count, joints: frame.poses[m].joints.slice(), size: 0, time: frame.time };
      this.tracks.push(track);
      taken.set(m, track);
    }
    return [...taken].map(([m, track]) => {
      const { joints, confidence } = frame.poses[m];
      for (let i = 0; i < joints.length; i++) if (!Number.isNaN(joints[i])) track.joints[i] = joints[i];
      // the visible part of a body can shrink at once, the body cannot
      track.size = Math.max(sizes[m], 0.9 * track.size);
      track.time = frame.time;
      return { person: track.number, joints, confidence };
    });
  }

  /**
   * Return the tracks by index of the pose.
   * @param {PoseFrame} frame
   * @param {number[]} order poses, the largest first
   * @returns {Map<number, Track>}
   */
  match(frame, order) {
    const { match_distance: distance, distance_growth: growth, persons } = this.settings;
    const cost = this.tracks.map((track) => {
      const limit = distance + growth * (frame.time - track.time);
      return order.map((m) => {
        const found = measureDistance(track, frame.poses[m].joints);
        return found <= limit ? found : NO_MATCH;
      });
    });
    return new Map(
      assign(cost)
        .filter(([k, m]) => cost[k][m] < NO_MATCH)
        .map(([k, m]) => /** @type {[number, Track]} */ ([order[m], this.tracks[k]]))
        .sort((a, b) => a[1].number - b[1].number)
        .slice(0, persons),
    );
  }
}

/**
 * Return the diagonal of the skeleton's bounding box, 0 without visible joints.
 * @param {Pose} pose
 * @param {PoseFrame} frame
 */
function measureSize({ joints }, { width, height }) {
  let left = Infinity, right = -Infinity, top = Infinity, bottom = -Infinity;
  for (let i = 0; i < joints.length; i += 2) {
    if (Number.isNaN(joints[i])) continue;
    left = Math.min(left, joints[i]);
    right = Math.max(right, joints[i]);
    top = Math.min(top, joints[i + 1]);
    bottom = Math.max(bottom, joints[i + 1]);
  }
  return right < left ? 0 : Math.max(Math.hypot(right - left, bottom - top), 1e-3 * Math.max(width, height));
}

/**
 * Return the mean distance of the joints from a track, in body sizes.
 * @param {Track} track
 * @param {Float64Array} joints
 */
function measureDistance(track, joints) {
  let total = 0, count = 0;
  for (let i = 0; i < joints.length; i += 2) {
    const distance = Math.hypot(joints[i] - track.joints[i], joints[i + 1] - track.joints[i + 1]);
    if (Number.isNaN(distance)) continue;
    total += distance;
    count += 1;
  }
  return count ? total / count / track.size : NO_MATCH;
}
