// Pipeline from poses to action segments: tracking, recognition, segmentation.
// The same rules as kinegraph/video/pipeline.py.

import { RepetitionCounter } from "./counting.js";
import { convertJoints } from "./joint_mapping.js";
import { measureMotion } from "./motion.js";
import { FrameResampler } from "./resampling.js";
import { ActionSegmenter } from "./segmentation.js";
import { Tracker } from "./tracking.js";

/** @import { Pose, PoseFrame, Prediction, RecognitionSettings, Segment, TrackedPose } from "./types.js" */
/** @import { StreamingSession } from "./session.js" */

export class ActionPipeline {
  /**
   * @param {RecognitionSettings} settings
   * @param {() => StreamingSession} openSession opens the session of a new person
   */
  constructor(settings, openSession) {
    this.settings = settings;
    this.openSession = openSession;
    this.tracker = new Tracker(settings.tracker);
    /** @type {Map<number, PersonState>} */
    this.persons = new Map();
    this.time = -1;
    this.step = 1 / settings.resampler.fps;
  }

  /**
   * Process the next picture; return its persons and the segments that have ended.
   * @param {PoseFrame} frame
   * @returns {Promise<{poses: TrackedPose[], segments: Segment[]}>}
   */
  async update(frame) {
    if (this.time >= 0) this.step = Math.min(frame.time - this.time, this.settings.pipeline.max_frame);
    this.time = frame.time;
    const poses = this.tracker.update(frame), segments = [];
    for (const pose of poses) {
      const known = this.persons.get(pose.person);
      const state = known ?? new PersonState(pose.person, this, frame.time);
      this.persons.set(pose.person, state);
      segments.push(...(await state.update(frame.time, pose)));
    }
    for (const state of [...this.persons.values()]) {
      if (frame.time - state.lastTime > this.settings.tracker.gap) segments.push(...(await this.end(state)));
    }
    return { poses, segments };
  }

  /** Return the segments of the persons visible at the end. */
  async finish() {
    const segments = [];
    for (const state of [...this.persons.values()]) segments.push(...(await this.end(state)));
    return segments;
  }

  /**
   * Return the newest prediction of a person.
   * @param {number} person
   */
  latest(person) {
    return this.persons.get(person)?.prediction ?? null;
  }

  /**
   * Return the repetitions of a person since the end of the last segment.
   * @param {number} person
   */
  repetitions(person) {
    const state = this.persons.get(person);
    return state ? state.counter.countSince(state.ended) : 0;
  }

  /** @param {PersonState} state */
  async end(state) {
    this.persons.delete(state.number);
    return state.finish(state.lastTime + this.step);
  }
}

/** The resampler, session, segmenter and counter of one person. */
class PersonState {
  /**
   * @param {number} number
   * @param {ActionPipeline} pipeline
   * @param {number} time
   */
  constructor(number, { settings, openSession }, time) {
    const { fps, max_gap: maxGap } = settings.resampler;
    const { window, interval } = settings.pipeline;
    this.settings = settings;
    this.number = number;
    this.firstTime = this.lastTime = this.segmented = this.ended = time;
    /** @type {Prediction | null} */
    this.prediction = null;
    this.resampler = new FrameResampler(fps, maxGap);
    this.session = openSession();
    this.segmenter = new ActionSegmenter(number, settings);
    this.counter = new RepetitionCounter(fps, time, settings.counter);
    /** @type {Float64Array[]} joints of the latest frames, of a window */
    this.recent = [];
    this.windowFrames = Math.max(1, Math.round(window * fps));
    // a prediction counts for the middle of its window, until halfway to the next one
    this.lag = window / 2 - interval / fps / 2;
  }

  /**
   * @param {number} time
   * @param {Pose} pose
   */
  async update(time, pose) {
    this.lastTime = time;
    const segments = [];
    for (const frame of this.resampler.update(time, pose)) {
      this.counter.push(frame.joints);
      segments.push(...(await this.push(frame)));
    }
    return segments.map((segment) => this.addCount(segment));
  }

  /**
   * Return a segment that has ended with its number of repetitions.
   * @param {Segment} segment
   * @returns {Segment}
   */
  addCount(segment) {
    this.ended = segment.end;
    return { ...segment, repetitions: this.counter.countBetween(segment.start, segment.end) };
  }

  /**
   * Return the remaining segments; persons visible too briefly have none.
   * @param {number} end
   */
  async finish(end) {
    const isBrief = end - this.firstTime < this.settings.pipeline.min_visible;
    const prediction = isBrief ? null : await this.session.flush();
    if (!prediction) return [];
    const segments = [...this.segmentUntil(end, prediction, this.isStill), ...this.segmenter.finish()];
    return segments.map((segment) => this.addCount(segment));
  }

  /** @param {Pose} pose */
  async push(pose) {
    const converted = convertJoints(pose, this.settings.mapping);
    if (!this.session.frames && converted.joints.every(Number.isNaN)) return [];
    this.session.push(converted);
    const settled = this.session.frames > this.settings.motion.settling ? this.recent : [];
    this.recent = [...settled, converted.joints].slice(-this.windowFrames);
    if (this.session.frames % this.settings.pipeline.interval) return [];
    const prediction = await this.session.flush();
    if (!prediction) return [];
    const { isStill } = this;
    this.prediction = isStill ? { ...prediction, accepted: null } : prediction;
    if (this.session.frames < this.windowFrames) return [];
    return this.segmentUntil(this.resampler.nextTime - this.lag, prediction, isStill);
  }

  get isStill() {
    const { still, min_presence: minPresence } = this.settings.motion;
    return measureMotion(this.recent, minPresence) < still;
  }

  /**
   * @param {number} time
   * @param {Prediction} prediction
   * @param {boolean} isStill
   */
  segmentUntil(time, prediction, isStill) {
    const start = this.segmented;
    this.segmented = Math.max(time, start);
    return start < time ? this.segmenter.update(start, this.segmented, prediction, isStill) : [];
  }
}
