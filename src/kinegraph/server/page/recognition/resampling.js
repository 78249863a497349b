// Resampling of poses at irregular times to a fixed frame rate.
// The same rules as kinegraph/video/resample.py.

/** @import { Pose } from "./types.js" */

const TOLERANCE_S = 1e-6;

export class FrameResampler {
  /**
   * @param {number} fps
   * @param {number} maxGap seconds between detections up to which joints are interpolated
   */
  constructor(fps, maxGap) {
    this.fps = fps;
    this.maxGap = maxGap;
    this.frames = 0;
    /** @type {{time: number, pose: Pose} | null} */
    this.last = null;
  }

  /** Time of the next frame. */
  get nextTime() {
    return this.frames / this.fps;
  }

  /**
   * Yield the frames of all times up to a detection; `nextTime` grows with each.
   * @param {number} time
   * @param {Pose} pose
   * @returns {Generator<Pose>}
   */
  *update(time, pose) {
    const now = { time, pose };
    if (!this.last) this.frames = Math.ceil(time * this.fps - TOLERANCE_S);
    const before = this.last ?? now, gap = time - before.time;
    this.last = now;
    while (this.nextTime <= time + TOLERANCE_S) {
      const share = gap > 0 ? (this.nextTime - before.time) / gap : 1;
      this.frames += 1;
      yield this.interpolate(before.pose, pose, share, gap);
    }
  }

  /**
   * @param {Pose} before
   * @param {Pose} after
   * @param {number} share
   * @param {number} gap
   * @returns {Pose}
   */
  interpolate(before, after, share, gap) {
    const nearest = share >= 0.5 ? after : before;
    if (gap > this.maxGap) {
      if (share <= TOLERANCE_S || share >= 1 - TOLERANCE_S) return nearest;
      return {
        joints: new Float64Array(nearest.joints.length).fill(NaN),
        confidence: new Float64Array(nearest.confidence.length),
      };
    }
    const joints = nearest.joints.slice(), confidence = nearest.confidence.slice();
    for (let v = 0; v < confidence.length; v++) {
      const x = (1 - share) * before.joints[2 * v] + share * after.joints[2 * v];
      if (Number.isNaN(x)) {
        // a joint of one detection only is copied from it
        if (Number.isNaN(joints[2 * v])) confidence[v] = 0;
        continue;
      }
      joints[2 * v] = x;
      joints[2 * v + 1] = (1 - share) * before.joints[2 * v + 1] + share * after.joints[2 * v + 1];
      confidence[v] = (1 - share) * before.confidence[v] + share * after.confidence[v];
    }
    return { joints, confidence };
  }
}
