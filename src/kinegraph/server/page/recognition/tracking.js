// Tracking: person numbers that stay the same from picture to picture.
// The same rules as kinegraph/video/tracking.py.

import { assign } from "./assignment.js";
import { median } from "./motion.js";

/** @import { Pose, PoseFrame, TrackedPose, TrackerSettings } from "./types.js" */

const NO_MATCH = 1e6; // cost above any distance

/** A person seen recently. */
class Track {
  /**
   * @param {number} number
   * @param {Pose} pose
   * @param {number} time
   */
  constructor(number, pose, time) {
    this.number = number;
    /** The last detection of each joint; those that are not visible move along. */
    this.joints = pose.joints.slice();
    this.size = 0;
    this.time = time;
    this.velocity = [0, 0]; // pixels per second
  }

  /**
   * Return the joints where they would be if the person moved on evenly.
   * @param {number} time
   * @param {number} maxSeconds
   */
  predict(time, maxSeconds) {
    const elapsed = Math.min(time - this.time, maxSeconds);
    return this.joints.map((value, i) => value + this.velocity[i % 2] * elapsed);
  }

  /**
   * Add a detection.
   * @param {Float64Array} joints
   * @param {number} size
   * @param {number} time
   * @param {TrackerSettings} settings
   */
  update(joints, size, time, { velocity_memory: memory, size_decay: decay }) {
    const elapsed = time - this.time, share = 1 - Math.exp(-elapsed / memory);
    const moved = joints.map((value, i) => value - this.joints[i]);
    const isShared = !moved.every(Number.isNaN);
    const shift = [0, 1].map((axis) => (isShared ? median(moved.filter((_, i) => i % 2 === axis)) : 0));
    if (elapsed > 0 && isShared) {
      this.velocity = this.velocity.map((value, axis) => (1 - share) * value + (share * shift[axis]) / elapsed);
    }
    this.joints = this.joints.map((value, i) => (Number.isNaN(joints[i]) ? value + shift[i % 2] : joints[i]));
    // the visible part of a body can shrink at once, the body cannot
    this.size = Math.max(size, decay * this.size);
    this.time = time;
  }
}

export class Tracker {
  /** @param {TrackerSettings} settings */
  constructor(settings) {
    this.settings = settings;
    /** @type {Track[]} */
    this.tracks = [];
    this.count = 0;
    this.time = -Infinity; // of the last picture
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
    this.time = frame.time;
    const unmatched = order.filter((m) => !taken.has(m)).slice(0, Math.max(persons - taken.size, 0));
    for (const m of unmatched.sort((a, b) => a - b)) {
      this.count += 1;
      const track = new Track(this.count, frame.poses[m], frame.time);
      this.tracks.push(track);
      taken.set(m, track);
    }
    return [...taken].map(([m, track]) => {
      const { joints, confidence } = frame.poses[m];
      track.update(joints, sizes[m], frame.time, this.settings);
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
    const { match_distance: distance, distance_growth: growth, persons, max_gap: maxGap } = this.settings;
    const hidden = this.tracks.map((track) => frame.time - track.time), { max_extrapolation: reach } = this.settings;
    const cost = this.tracks.map((track, k) => {
      const expected = track.predict(frame.time, reach);
      return order.map((m) => {
        const found = measureDistance(expected, frame.poses[m].joints) / track.size;
        return found <= distance + growth * hidden[k] ? found : NO_MATCH;
      });
    });
    const lost = hidden.map((seconds) => seconds > Math.max(maxGap, frame.time - this.time));
    const pairs = assign(cost).filter(([k, m]) => cost[k][m] < NO_MATCH);
    const settled = pairs.filter(([k]) => !lost[k]).map(([, m]) => m); // these are not rivals
    const rivals = cost.map((row) => row.map((value, m) => (settled.includes(m) ? NO_MATCH : value)));
    return new Map(
      pairs
        .filter(([k, m]) => !lost[k] || this.hasLead(rivals, lost, k, m))
        .map(([k, m]) => /** @type {[number, Track]} */ ([order[m], this.tracks[k]]))
        .sort((a, b) => a[1].number - b[1].number)
        .slice(0, persons),
    );
  }

  /**
   * Return whether a lost track and a pose fit each other better than any of the others.
   * @param {number[][]} cost
   * @param {boolean[]} lost
   * @param {number} k
   * @param {number} m
   */
  hasLead(cost, lost, k, m) {
    const tracks = cost.map((row) => row[m]).filter((_, i) => i !== k && lost[i]);
    const poses = cost[k].filter((_, i) => i !== m);
    return [...tracks, ...poses].every((other) => other >= cost[k][m] + this.settings.min_lead);
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
 * Return the mean distance of joints, infinite if none is present in both.
 * @param {Float64Array} a
 * @param {Float64Array} b
 */
function measureDistance(a, b) {
  let total = 0, count = 0;
  for (let i = 0; i < a.length; i += 2) {
    const distance = Math.hypot(a[i] - b[i], a[i + 1] - b[i + 1]);
    if (Number.isNaN(distance)) continue;
    total += distance;
    count += 1;
  }
  return count ? total / count : Infinity;
}
