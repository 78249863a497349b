// Counting of repetitions from the joints of one person, without training.
// The same rules as kinegraph/inference/counting.py, which explains them.

import { median } from "./motion.js";

/** @import { CounterSettings } from "./types.js" */

/** @typedef {{time: number, joints: Float64Array}} TimedPose joints: 2 V, NaN where absent */

/** @typedef {{start: number, end: number, size: number, direction: Float64Array}} Cycle size in diagonals of the body */

/**
 * The pose after a cycle that is nearest to its start, and its distance from it.
 * @typedef {object} CycleEnd
 * @property {TimedPose} start
 * @property {number} size
 * @property {TimedPose} nearest
 * @property {number} distance
 * @property {boolean} isLeft
 */

/** Cycles in the same direction as the first; `partial` are smaller ones. @typedef {{full: Cycle[], partial: Cycle[]}} Kind */

export class RepetitionCounter {
  /**
   * @param {number} fps frames per second
   * @param {number} start time of the first frame
   * @param {CounterSettings} settings
   */
  constructor(fps, start, settings) {
    this.fps = fps;
    this.start = start;
    this.settings = settings;
    this.frames = 0;
    this.smoothed = Math.max(1, roundHalfEven(settings.smoothing * fps));
    /** @type {Float64Array[]} */
    this.recent = [];
    this.diagonal = this.diagonals = 0;
    /** @type {Kind[]} */
    this.kinds = [];
    this.countedUntil = -Infinity; // end of the last cycle
    this.absent = 0; // frames
    /** @type {Float64Array | null} the last pose */
    this.pose = null;
    /** @type {TimedPose[]} poses since the last turning point, which is the first */
    this.since = [];
    /** @type {TimedPose | null} the turning point before, where a cycle may end */
    this.before = null;
    /** @type {CycleEnd | null} where a cycle ended since the last turning point */
    this.end = null;
    /** @type {TimedPose | null} the pose farthest from the last turning point */
    this.far = null;
    this.length = 0; // its distance
  }

  /**
   * Return the repetitions so far whose middle is at a time or later, of kinds with two or more.
   * @param {number} time
   */
  countSince(time) {
    const repeated = this.kinds.filter(({ full }) => full.length > 1);
    return repeated.flatMap(({ full }) => full).filter(({ start, end }) => (start + end) / 2 >= time).length;
  }

  /**
   * Return the number of repetitions whose middle lies between two times, if the recording ends here.
   * @param {number} from
   * @param {number} to
   */
  countBetween(from, to) {
    const repeated = this.kinds.filter(({ full }) => full.length > 1);
    const counting = repeated.length ? repeated : [...this.kinds].sort((a, b) => usualSize(b) - usualSize(a)).slice(0, 1);
    const middles = counting.flatMap(({ full }) => full).map(({ start, end }) => (start + end) / 2);
    return middles.filter((middle) => from <= middle && middle < to).length;
  }

  /**
   * Add the joints of the next frame.
   * @param {Float64Array} joints 2 V, NaN where absent
   */
  push(joints) {
    const time = this.start + this.frames / this.fps;
    this.frames += 1;
    const own = joints.map((_, i) => (Number.isFinite(joints[i - (i % 2)] + joints[i - (i % 2) + 1]) ? joints[i] : NaN));
    this.recent = [...this.recent, own].slice(-this.smoothed);
    if (own.every(Number.isNaN)) {
      this.absent += 1;
      if (this.absent > this.settings.max_absence * this.fps) this.forget();
      return;
    }
    this.absent = 0;
    this.diagonals = Math.min(this.diagonals + 1, this.settings.size_memory * this.fps);
    this.diagonal += (extent(own) - this.diagonal) / this.diagonals;
    this.pose = this.smooth();
    this.follow({ time, joints: this.pose });
  }

  /** Forget the movement that is under way; what was counted remains. */
  forget() {
    this.recent = [];
    this.absent = 0;
    this.pose = this.before = this.end = null;
    this.since = [];
  }

  /** Return the mean of the recent frames; a joint that is absent stays where it was. */
  smooth() {
    return this.recent[0].map((_, i) => {
      const present = this.recent.map((joints) => joints[i]).filter((value) => !Number.isNaN(value));
      if (!present.length) return this.pose ? this.pose[i] : NaN;
      return present.reduce((sum, value) => sum + value, 0) / present.length;
    });
  }

  /**
   * Take the first pose for a turning point and follow the others from it.
   * @param {TimedPose[]} poses
   * @param {TimedPose | null} before
   */
  restart(poses, before = null) {
    this.before = before;
    this.end = null;
    this.since = [poses[0]];
    this.far = poses[0];
    this.length = 0;
    for (const pose of poses.slice(1)) this.follow(pose);
  }

  /** @param {TimedPose} pose */
  follow(pose) {
    if (!this.since.length || !this.far) {
      this.restart([pose]);
      return;
    }
    const { min_size: minSize, turn_share: turnShare } = this.settings;
    this.since.push(pose);
    const turn = this.since[0], length = sizeOf(differ(pose.joints, turn.joints).moved);
    if (length >= this.length) {
      this.far = pose;
      this.length = length;
    }
    const { far } = this, back = sizeOf(differ(pose.joints, far.joints).moved);
    // the way back along the line from the turning point to the farthest pose, by cosines
    const hasTurned = this.length ** 2 + back ** 2 - length ** 2 > 2 * turnShare * this.length ** 2;
    if (hasTurned && this.length >= minSize * this.diagonal) {
      this.restart(this.since.filter(({ time }) => time >= far.time), this.end ? null : turn);
    } else if (pose.time - turn.time > this.maxWay) {
      const later = this.since.slice(this.since.length >> 1).filter(({ time }) => time >= this.countedUntil);
      this.restart(later.length ? later : [pose]);
    } else if (this.end) {
      this.leave(this.end, turn, pose);
    } else if (this.before) {
      this.close(this.before, turn, pose);
    }
  }

  /**
   * Start from the end of a cycle when the body leaves it in another direction.
   * @param {CycleEnd} end
   * @param {TimedPose} turn
   * @param {TimedPose} pose
   */
  leave(end, turn, pose) {
    const rest = differ(pose.joints, end.start.joints).moved, distance = sizeOf(rest);
    if (distance < end.distance) {
      end.distance = distance;
      end.nearest = pose;
    } else if (!end.isLeft && distance > end.distance + this.settings.leave_share * end.size) {
      end.isLeft = true;
      const way = differ(end.start.joints, turn.joints).moved;
      if (Math.abs(dot(rest, way)) < this.settings.min_likeness * distance * sizeOf(way)) {
        this.restart(this.since.filter(({ time }) => time >= end.nearest.time));
      }
    }
  }

  /**
   * Add the cycle from a start by a turning point to a pose, if it ends where it began.
   * @param {TimedPose} start
   * @param {TimedPose} turn
   * @param {TimedPose} pose
   */
  close(start, turn, pose) {
    const { close_share: closeShare, max_travel: maxTravel, max_kinds: maxKinds } = this.settings;
    const way = differ(turn.joints, start.joints).moved, size = sizeOf(way);
    const { moved: rest, mean: travel } = differ(pose.joints, start.joints);
    if (sizeOf(rest) >= closeShare * size || Math.hypot(...travel) >= maxTravel * this.diagonal) return;
    this.countedUntil = pose.time;
    this.end = { start, size, nearest: pose, distance: sizeOf(rest), isLeft: false };
    const direction = way.map((value) => value / size);
    const cycle = { start: start.time, end: pose.time, size: size / this.diagonal, direction };
    const { min_likeness: minLikeness, full_share: fullShare } = this.settings;
    const kind = this.kinds.find(({ full }) => dot(full[0].direction, direction) > minLikeness);
    if (kind) {
      addCycle(kind, cycle, fullShare);
      return;
    }
    if (this.kinds.length === maxKinds) {
      const single = this.kinds.findIndex(({ full }) => full.length === 1);
      if (single < 0) return;
      this.kinds.splice(single, 1);
    }
    this.kinds.push({ full: [cycle], partial: [] });
  }

  /** Seconds after a turning point without another one, after which it is forgotten. */
  get maxWay() {
    const { max_way: maxWay, min_way: minWay, max_way_cycles: maxCycles } = this.settings;
    const repeated = this.kinds.filter(({ full }) => full.length > 1);
    const seconds = repeated.flatMap(({ full }) => full.map(({ start, end }) => end - start));
    return seconds.length ? Math.max(minWay, maxCycles * median(seconds)) : maxWay;
  }
}

/**
 * @param {Kind} kind
 * @param {Cycle} cycle
 * @param {number} fullShare share of the usual size below which a cycle is partial
 */
function addCycle(kind, cycle, fullShare) {
  const usual = usualSize(kind);
  if (cycle.size < fullShare * usual) {
    kind.partial.push(cycle);
  } else if (kind.full.length === 1 && usual < fullShare * cycle.size) {
    kind.partial.push(...kind.full);
    kind.full = [cycle];
  } else {
    kind.full.push(cycle);
  }
}

/** @param {Kind} kind */
function usualSize({ full }) {
  return median(full.map(({ size }) => size));
}

/**
 * Return the displacements of joints less their mean, and the mean.
 * @param {Float64Array} pose
 * @param {Float64Array} other
 * @returns {{moved: Float64Array, mean: [number, number]}}
 */
function differ(pose, other) {
  const moved = pose.map((value, i) => value - other[i]);
  let [x, y, count] = [0, 0, 0];
  for (let i = 0; i < moved.length; i += 2) {
    if (Number.isNaN(moved[i])) continue;
    x += moved[i];
    y += moved[i + 1];
    count += 1;
  }
  if (!count) return { moved: new Float64Array(moved.length), mean: [0, 0] };
  /** @type {[number, number]} */
  const mean = [x / count, y / count];
  return { moved: moved.map((value, i) => (Number.isNaN(value) ? 0 : value - mean[i % 2])), mean };
}

/** @param {Float64Array} difference */
function sizeOf(difference) {
  return Math.sqrt(dot(difference, difference));
}

/**
 * @param {Float64Array} a
 * @param {Float64Array} b
 */
function dot(a, b) {
  return a.reduce((sum, value, i) => sum + value * b[i], 0);
}

/**
 * Return the diagonal of the box around the joints.
 * @param {Float64Array} joints
 */
function extent(joints) {
  const sides = [0, 1].map((axis) => {
    const own = [...joints].filter((value, i) => i % 2 === axis && !Number.isNaN(value));
    return Math.max(...own) - Math.min(...own);
  });
  return Math.hypot(...sides);
}

/** @param {number} value */
function roundHalfEven(value) {
  const floor = Math.floor(value);
  return value - floor === 0.5 ? floor + (floor % 2) : Math.round(value);
}
