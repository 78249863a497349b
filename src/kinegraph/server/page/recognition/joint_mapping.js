// Conversion of the joints of a pose to those of the model.
// The same rules as kinegraph/skeleton/joint_mapping.py.

/** @import { Pose } from "./types.js" */

/**
 * Return the pose in another layout: each joint is the mean of its sources, or absent.
 * @param {Pose} pose
 * @param {number[][]} mapping sources of each joint
 * @returns {Pose}
 */
export function convertJoints(pose, mapping) {
  const joints = new Float64Array(2 * mapping.length).fill(NaN);
  const confidence = new Float64Array(mapping.length);
  mapping.forEach((sources, v) => {
    if (!sources.length) return;
    let x = 0, y = 0, smallest = Infinity;
    for (const source of sources) {
      x += pose.joints[2 * source];
      y += pose.joints[2 * source + 1];
      smallest = Math.min(smallest, pose.confidence[source]);
    }
    joints[2 * v] = x / sources.length;
    joints[2 * v + 1] = y / sources.length;
    confidence[v] = Number.isNaN(x) ? 0 : smallest;
  });
  return { joints, confidence };
}
