// Streaming session of one person: frames in, predictions out, by the exported step network.

import { Preprocessor } from "./preprocessing.js";

/** @import { InferenceSession, Tensor, TypedTensor } from "onnxruntime-common" */
/** @import { Pose, Prediction, RecognitionSettings } from "./types.js" */

/** Constructor of tensors: that of the runtime which runs the network. @typedef {typeof import("onnxruntime-common").Tensor} TensorClass */

const UNKNOWN_LENGTH = 2n ** 62n; // frames of a stream whose end is not known yet
const ARRAYS = { float32: Float32Array, int64: BigInt64Array, bool: Uint8Array };

export class StreamingSession {
  /**
   * @param {RecognitionSettings} settings
   * @param {InferenceSession} network
   * @param {TensorClass} tensorClass
   */
  constructor(settings, network, tensorClass) {
    this.settings = settings;
    this.network = network;
    this.Tensor = tensorClass;
    this.preprocessor = new Preprocessor(settings.steps, settings.network);
    /** Number of frames that were pushed. */
    this.frames = 0;
    this.computed = 0; // frames that the state includes
    /** @type {Float32Array[]} (C, V) each, not in the state yet */
    this.pending = [];
    this.state = this.initialState();
  }

  /**
   * Add the next frame.
   * @param {Pose} pose in the model's layout
   */
  push(pose) {
    const input = this.preprocessor.update(pose);
    // the first step ends with the first frame
    if (!this.frames) for (let i = 1; i < this.settings.network.hop; i++) this.pending.push(new Float32Array(input.length));
    this.pending.push(input);
    this.frames += 1;
  }

  /**
   * Return the prediction for all frames so far, as if the stream ended here; more may follow.
   * @returns {Promise<Prediction | null>} null without frames
   */
  async flush() {
    if (!this.frames) return null;
    const { hop, delay } = this.settings.network;
    while (this.pending.length >= hop) {
      const { state } = await this.run(this.pending.slice(0, hop), this.computed, UNKNOWN_LENGTH, this.state);
      this.state = state;
      this.computed += hop;
      this.pending.splice(0, hop);
    }
    const last = hop - 1 + this.frames + delay; // by then all features are known
    const frames = [...this.pending];
    const blank = new Float32Array(this.preprocessor.network.channels * this.preprocessor.network.joints);
    while (this.computed + frames.length < last || frames.length % hop) frames.push(blank);
    let logits = new Float32Array(), { state } = this;
    for (let i = 0; i < frames.length; i += hop) {
      ({ logits, state } = await this.run(frames.slice(i, i + hop), this.computed + i, BigInt(this.frames), state));
    }
    return decode(logits, this.settings);
  }

  /** Return the inputs of the network before its first step, by name. */
  initialState() {
    const { persons, state } = this.settings.network;
    /** @type {Record<string, Tensor>} */
    const made = { present: new this.Tensor("bool", new Uint8Array(persons), [1, persons]) };
    state.forEach(({ shape, dtype, fill }, i) => {
      const size = shape.reduce((product, side) => product * side, 1);
      const values = new ARRAYS[dtype](size);
      // @ts-ignore: the value has the type of the array
      values.fill(dtype === "int64" ? BigInt(fill) : Number(fill));
      made[`kept_${i}`] = new this.Tensor(/** @type {"float32"} */ (dtype), /** @type {any} */ (values), [1, ...shape]);
    });
    return made;
  }

  /**
   * Run one step.
   * @param {Float32Array[]} frames (C, V) each
   * @param {number} before frames of earlier steps
   * @param {bigint} end frames of the stream
   * @param {Record<string, Tensor>} state
   * @returns {Promise<{logits: Float32Array<ArrayBuffer>, state: Record<string, Tensor>}>}
   */
  async run(frames, before, end, state) {
    const { channels: C, joints: V, persons: M, hop } = this.settings.network;
    const x = new Float32Array(C * hop * V * M); // (C, f, V, M), the person is the first
    for (let c = 0; c < C; c++) {
      for (let t = 0; t < hop; t++) {
        for (let v = 0; v < V; v++) x[((c * hop + t) * V + v) * M] = frames[t][c * V + v];
      }
    }
    const outputs = await this.network.run({
      frames: new this.Tensor("float32", x, [1, C, hop, V, M]),
      before: new this.Tensor("int64", BigInt64Array.of(BigInt(before)), [1]),
      end: new this.Tensor("int64", BigInt64Array.of(end), [1]),
      ...state,
    });
    const next = Object.fromEntries(Object.keys(state).map((name) => [name, outputs[`${name}_next`]]));
    return { logits: /** @type {Float32Array<ArrayBuffer>} */ (outputs.logits.data), state: next };
  }
}

/**
 * Return the calibrated candidates of logits.
 * @param {Float32Array} logits
 * @param {Pick<RecognitionSettings, "classes" | "calibration">} settings
 * @returns {Prediction}
 */
export function decode(logits, { classes, calibration }) {
  const { temperature, threshold, background } = calibration;
  const scaled = Array.from(logits, (value) => value / temperature), highest = Math.max(...scaled);
  const powers = scaled.map((value) => Math.exp(value - highest));
  const total = powers.reduce((sum, value) => sum + value, 0);
  const candidates = powers
    .map((power, label) => ({ label, name: classes[label], probability: power / total || 0 }))
    .filter(({ label }) => label !== background)
    .sort((a, b) => b.probability - a.probability);
  const accepted = candidates[0].probability >= threshold ? candidates[0] : null;
  return { candidates, logits, accepted };
}
