// The frame-wise transforms of a run, with the history that they need; one person.
// The same rules as kinegraph/transforms.

/** @import { Pose, PreprocessingStep } from "./types.js" */

/** @typedef {(pose: Pose) => Pose} Transform */

export class Preprocessor {
  /**
   * @param {PreprocessingStep[]} steps
   * @param {{channels: number, joints: number, confidence: boolean}} network
   */
  constructor(steps, network) {
    const stream = steps.find((step) => step.name === "stream");
    this.network = network;
    this.transforms = steps.filter((step) => step.name !== "stream").map(createTransform);
    this.parts = stream?.parts ?? ["joint"];
    this.parents = stream?.parents ?? [];
  }

  /**
   * Return the network's input of the next frame: (C, V), absent joints are 0.
   * @param {Pose} pose
   * @returns {Float32Array}
   */
  update(pose) {
    const { joints, confidence } = this.transforms.reduce((held, transform) => transform(held), pose);
    const { channels, joints: V } = this.network, input = new Float32Array(channels * V);
    for (let v = 0; v < V; v++) {
      if (Number.isNaN(joints[2 * v])) continue;
      this.parts.forEach((part, i) => {
        for (const axis of [0, 1]) {
          const here = joints[2 * v + axis];
          const value = part === "bone" ? here - joints[2 * this.parents[v] + axis] : here;
          input[(2 * i + axis) * V + v] = Number.isNaN(value) ? 0 : value;
        }
      });
      if (this.network.confidence) input[(channels - 1) * V + v] = confidence[v];
    }
    return input;
  }
}

/**
 * @param {PreprocessingStep} step
 * @returns {Transform}
 */
function createTransform(step) {
  switch (step.name) {
    case "forget_confidence":
      return (pose) => forgetConfidence(pose, step.threshold);
    case "body_normalize":
      return bodyNormalizer(step);
    case "hold_missing":
      return missingHolder();
    default:
      throw new Error(`unknown preprocessing step ${step.name}`);
  }
}

/**
 * Hide joints of a confidence below the threshold, and set all others to 1.
 * @param {Pose} pose
 * @param {number} threshold
 * @returns {Pose}
 */
function forgetConfidence({ joints, confidence }, threshold) {
  const kept = joints.slice();
  const present = confidence.map((value, v) => {
    if (value < threshold) kept[2 * v] = kept[2 * v + 1] = NaN;
    return Number.isNaN(kept[2 * v]) ? 0 : 1;
  });
  return { joints: kept, confidence: present };
}

/**
 * Return the transform that keeps absent joints at their last known position.
 * @returns {Transform}
 */
function missingHolder() {
  /** @type {Float64Array | null} */
  let last = null;
  return ({ joints, confidence }) => {
    const known = updateKnown(last, joints), anyone = joints.some((value) => !Number.isNaN(value));
    last = known;
    const present = confidence.map((value, v) => (Number.isNaN(joints[2 * v]) ? 0 : value));
    return { joints: anyone ? known.slice() : joints, confidence: present };
  };
}

/**
 * Return the transform that moves the middle of the trunk to the origin and scales by its length.
 * @param {{lead: number, trunk: number[][], limbs: [number, number, number][]}} step
 * @returns {Transform}
 */
function bodyNormalizer({ lead, trunk, limbs }) {
  /** @type {Float64Array | null} */
  let last = null;
  return ({ joints, confidence }) => {
    const before = last;
    last = updateKnown(last, joints);
    const center = trunkCenter(joints, trunk);
    const centered = joints.map((value, i) => value - center[i % 2]);
    const size = trunkLength(centered, limbs);
    const ahead = [0, 0];
    if (lead && before) {
      const moved = trunkCenter(joints.map((value, i) => value - before[i]), trunk);
      for (const axis of [0, 1]) ahead[axis] = Math.min(Math.max((moved[axis] / size) * lead, -1), 1);
    }
    return { joints: centered.map((value, i) => value / size + ahead[i % 2]), confidence };
  };
}

/**
 * Return the latest known position of each joint.
 * @param {Float64Array | null} known
 * @param {Float64Array} joints
 */
function updateKnown(known, joints) {
  return known ? joints.map((value, i) => (Number.isNaN(value) ? known[i] : value)) : joints.slice();
}

/**
 * Return the mean [x, y] of the present joints, NaN if none is present.
 * @param {Float64Array} joints
 * @param {Iterable<number>} chosen
 */
function presentMean(joints, chosen) {
  let x = 0, y = 0, count = 0;
  for (const v of chosen) {
    if (Number.isNaN(joints[2 * v])) continue;
    x += joints[2 * v];
    y += joints[2 * v + 1];
    count += 1;
  }
  return [x / count, y / count];
}

/**
 * Return the middle of the trunk: the mean of shoulders and hips, or of those that are present, or
 * of all present joints; 0 if there is none.
 * @param {Float64Array} joints
 * @param {number[][]} trunk
 */
function trunkCenter(joints, trunk) {
  const ends = Float64Array.from(trunk.flatMap((own) => presentMean(joints, own)));
  let middle = presentMean(ends, trunk.keys());
  if (Number.isNaN(middle[0])) middle = presentMean(joints, Array(joints.length / 2).keys());
  return Number.isNaN(middle[0]) ? [0, 0] : middle;
}

/**
 * Estimate the length of the trunk from the limbs and from the farthest of centered joints.
 * @param {Float64Array} joints
 * @param {[number, number, number][]} limbs ends, and usual length in trunks
 */
function trunkLength(joints, limbs) {
  let farthest = 0;
  for (let i = 0; i < joints.length; i += 2) {
    farthest = Math.max(farthest, Math.hypot(joints[i], joints[i + 1]) / 2 || 0);
  }
  const [first = 0, second = 0] = limbs
    .map(([a, b, usual]) => Math.hypot(joints[2 * a] - joints[2 * b], joints[2 * a + 1] - joints[2 * b + 1]) / usual || 0)
    .sort((a, b) => b - a);
  return Math.max(farthest, second > 0 ? (first + second) / 2 : first) || 1;
}
