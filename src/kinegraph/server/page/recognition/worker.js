// Worker: estimates poses and recognizes actions, in a thread beside the page.
// Its messages are those of the server's websocket /v1/video.

import * as ort from "../vendor/ort.wasm.min.mjs";
import { MovenetPoses } from "./movenet.js";
import { ActionPipeline } from "./pipeline.js";
import { dominantAction, UNKNOWN } from "./segmentation.js";
import { StreamingSession } from "./session.js";

/** @import { Prediction, RecognitionSettings, Segment, TrackedPose } from "./types.js" */

const MAX_THREADS = 4;

/** @type {Promise<Recognition> | null} */
let loading = null;
/** @type {Promise<void>} messages are answered in their order */
let queue = Promise.resolve();

class Recognition {
  /**
   * @param {RecognitionSettings} settings
   * @param {MovenetPoses} estimator
   * @param {import("onnxruntime-common").InferenceSession} network
   */
  constructor(settings, estimator, network) {
    this.settings = settings;
    this.estimator = estimator;
    this.network = network;
    this.pipeline = this.createPipeline();
    /** @type {Segment[]} */
    this.segments = [];
  }

  createPipeline() {
    const open = () => new StreamingSession(this.settings, this.network, ort.Tensor);
    return new ActionPipeline(this.settings, open);
  }

  /** Begin a new video. */
  start() {
    this.pipeline = this.createPipeline();
    this.segments = [];
  }

  /**
   * Return the answer to one picture.
   * @param {ImageBitmap} picture
   * @param {number} time
   */
  async process(picture, time) {
    const frame = await this.estimator.estimate(picture, time);
    const { poses, segments } = await this.pipeline.update(frame);
    this.segments.push(...segments);
    const persons = poses.map((pose) => ({
      person: pose.person,
      joints: toPoints(pose),
      ...toVerdict(this.pipeline.latest(pose.person)),
      repetitions: this.pipeline.repetitions(pose.person),
    }));
    return { time, width: frame.width, height: frame.height, persons, segments };
  }

  async finish() {
    const segments = await this.pipeline.finish();
    const all = [...this.segments, ...segments];
    return { end: true, segments, main: dominantAction(all, this.settings.segmenter) };
  }
}

/** @param {TrackedPose} pose */
function toPoints({ joints, confidence }) {
  return Array.from(confidence, (_, v) => (Number.isNaN(joints[2 * v]) ? null : [joints[2 * v], joints[2 * v + 1]]));
}

/** @param {Prediction | null} prediction */
function toVerdict(prediction) {
  if (!prediction) return { label: null, name: null, probability: null };
  const { accepted, candidates } = prediction;
  return { label: accepted?.label ?? null, name: accepted?.name ?? UNKNOWN, probability: candidates[0].probability };
}

/**
 * Load the runtime and both networks.
 * @param {string} base address of the model's files, which ends with a slash
 * @param {Record<string, string>} headers of the requests
 */
async function load(base, headers) {
  ort.env.wasm.wasmPaths = new URL("../vendor/", import.meta.url).href;
  // threads share memory, which browsers allow to isolated pages only
  ort.env.wasm.numThreads = globalThis.crossOriginIsolated ? Math.min(MAX_THREADS, navigator.hardwareConcurrency) : 1;
  ort.env.logLevel = "error";
  const get = async (/** @type {string} */ name) => {
    const response = await fetch(new URL(name, base), { headers });
    if (response.ok) return response;
    const { error } = await response.json().catch(() => ({ error: `${name}: status ${response.status}` }));
    throw new Error(error);
  };
  const open = async (/** @type {string} */ name) => {
    const bytes = new Uint8Array(await (await get(name)).arrayBuffer());
    return ort.InferenceSession.create(bytes, { executionProviders: ["wasm"], logSeverityLevel: 3 });
  };
  const settings = /** @type {RecognitionSettings} */ (await (await get("recognition.json")).json());
  const [poses, actions] = [await open("poses.onnx"), await open("actions.onnx")];
  return new Recognition(settings, new MovenetPoses(settings.poses, poses, ort.Tensor), actions);
}

/** @param {any} message */
async function answer(message) {
  if (message.load) {
    loading = load(message.load, message.headers);
    await loading;
    postMessage({ loaded: true, threads: ort.env.wasm.numThreads });
    return;
  }
  const recognition = await loading;
  if (!recognition) return;
  if (message.start) {
    recognition.start();
    postMessage(recognition.settings.skeleton);
  } else if (message.picture) {
    const result = await recognition.process(message.picture, message.time);
    postMessage({ ...result, picture: message.picture }, { transfer: [message.picture] });
  } else if (message.end) {
    postMessage(await recognition.finish());
  }
}

addEventListener("message", ({ data }) => {
  queue = queue.then(() => answer(data)).catch((error) => postMessage({ error: String(error.message ?? error) }));
});
