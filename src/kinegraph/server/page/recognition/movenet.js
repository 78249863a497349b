// Pose estimation by MoveNet MultiPose Lightning: up to six persons, COCO joints.

/** @import { InferenceSession } from "onnxruntime-common" */
/** @import { Pose, PoseFrame, PoseSettings } from "./types.js" */
/** @import { TensorClass } from "./session.js" */

const JOINTS = 17, ROW = 3 * JOINTS + 5; // (y, x, score) of each joint, then box and score

export class MovenetPoses {
  /**
   * @param {PoseSettings} settings
   * @param {InferenceSession} network
   * @param {TensorClass} tensorClass
   */
  constructor(settings, network, tensorClass) {
    this.settings = settings;
    this.network = network;
    this.Tensor = tensorClass;
    this.canvas = new OffscreenCanvas(1, 1);
  }

  /**
   * Return the persons in a picture.
   * @param {ImageBitmap} picture
   * @param {number} time
   * @returns {Promise<PoseFrame>}
   */
  async estimate(picture, time) {
    const { pixels, width, height, scaleX, scaleY } = this.fit(picture);
    const input = new this.Tensor("int32", pixels, [1, height, width, 3]);
    const { output } = await this.network.run({ input });
    const rows = /** @type {Float32Array} */ (output.data), { width: w, height: h } = picture;
    const poses = decodePoses(rows, this.settings, [width / scaleX, height / scaleY], [w, h]);
    return { time, width: w, height: h, poses };
  }

  /**
   * Draw the picture into the upper left corner of the input; return its RGB numbers and scale.
   * @param {ImageBitmap} picture
   */
  fit(picture) {
    const { input_pixels: side, input_step: step } = this.settings;
    const ratio = side / Math.max(picture.width, picture.height);
    const drawn = [picture.width, picture.height].map((size) => Math.max(1, Math.round(size * ratio)));
    const [width, height] = drawn.map((size) => Math.ceil(size / step) * step);
    this.canvas.width = width;
    this.canvas.height = height;
    const context = this.canvas.getContext("2d", { willReadFrequently: true, alpha: false });
    if (!context) throw new Error("this browser cannot draw pictures outside of the page");
    context.imageSmoothingQuality = "high";
    context.drawImage(picture, 0, 0, drawn[0], drawn[1]);
    const { data } = context.getImageData(0, 0, width, height), pixels = new Int32Array(3 * width * height);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      pixels[to++] = data[from];
      pixels[to++] = data[from + 1];
      pixels[to++] = data[from + 2];
    }
    return { pixels, width, height, scaleX: drawn[0] / picture.width, scaleY: drawn[1] / picture.height };
  }
}

/**
 * Return the poses in the model's rows: joints inside the picture with enough score are visible.
 * @param {Float32Array} rows
 * @param {PoseSettings} settings
 * @param {[number, number]} extent width and height of the model's input, in pixels of the picture
 * @param {[number, number]} size width and height of the picture
 * @returns {Pose[]}
 */
export function decodePoses(rows, settings, extent, size) {
  const poses = [], order = [...Array(rows.length / ROW).keys()];
  const scores = order.map((row) => rows[(row + 1) * ROW - 1]);
  for (const row of order.sort((a, b) => scores[b] - scores[a])) {
    if (scores[row] < settings.min_person_score) continue;
    const joints = new Float64Array(2 * JOINTS).fill(NaN), confidence = new Float64Array(JOINTS);
    for (let v = 0; v < JOINTS; v++) {
      const [y, x, score] = rows.subarray(row * ROW + 3 * v, row * ROW + 3 * v + 3);
      const left = x * extent[0], top = y * extent[1];
      if (score < settings.min_joint_score || left < 0 || top < 0 || left > size[0] || top > size[1]) continue;
      joints[2 * v] = left;
      joints[2 * v + 1] = top;
      confidence[v] = Math.min(score, 1);
    }
    if (confidence.some((value) => value > 0)) poses.push({ joints, confidence });
  }
  return poses;
}
