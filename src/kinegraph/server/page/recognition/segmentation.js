// Segmentation: predictions over time merged into action segments, and the dominant action.
// The same rules as kinegraph/video/segmentation.py.

/** @import { Prediction, RecognitionSettings, Segment } from "./types.js" */

export const UNKNOWN = "unknown";

/**
 * Consecutive predictions with the same label; `mass` is probability times seconds of each class.
 * @typedef {{label: number | null, start: number, end: number, mass: Float64Array}} Run
 */

export class ActionSegmenter {
  /**
   * @param {number} person
   * @param {RecognitionSettings} settings
   */
  constructor(person, { classes, calibration, segmenter }) {
    this.person = person;
    this.classes = classes;
    this.minDuration = segmenter.min_duration;
    this.keepThreshold = segmenter.hysteresis * calibration.threshold;
    /** @type {Run | null} */
    this.current = null;
    /** @type {Run | null} becomes current if it lasts long enough */
    this.candidate = null;
  }

  /**
   * Add the prediction for a time span that follows the one before; return segments that ended.
   * @param {number} start
   * @param {number} end
   * @param {Prediction} prediction
   * @returns {Segment[]}
   */
  update(start, end, prediction) {
    const shares = new Float64Array(this.classes.length);
    for (const { label, probability } of prediction.candidates) shares[label] = probability;
    const label = this.chooseLabel(prediction, shares);
    const seconds = Math.max(end - start, 1e-9);
    const run = { label, start, end, mass: shares.map((share) => share * seconds) };
    if (!this.current) {
      this.current = run;
      return [];
    }
    if (label === this.current.label) {
      this.mergeCandidate(this.current);
      extend(this.current, run);
      return [];
    }
    if (this.candidate && this.candidate.label === label) {
      extend(this.candidate, run);
    } else {
      this.mergeCandidate(this.current);
      this.candidate = run;
    }
    if (this.candidate.end - this.candidate.start < this.minDuration) return [];
    const ended = this.current;
    this.current = this.candidate;
    this.candidate = null;
    if (ended.end - ended.start >= this.minDuration) return [this.toSegment(ended)];
    this.current.start = ended.start; // the first run was too short for a segment
    return [];
  }

  /**
   * Return the last segment.
   * @returns {Segment[]}
   */
  finish() {
    const last = this.current;
    this.current = null;
    if (!last) return [];
    this.mergeCandidate(last);
    return [this.toSegment(last)];
  }

  /**
   * @param {Prediction} prediction
   * @param {Float64Array} shares
   */
  chooseLabel(prediction, shares) {
    if (prediction.accepted) return prediction.accepted.label;
    const current = this.current?.label ?? null;
    return current !== null && shares[current] >= this.keepThreshold ? current : null;
  }

  /**
   * Merge an interruption that was too short into the current run.
   * @param {Run} current
   */
  mergeCandidate(current) {
    if (this.candidate) extend(current, this.candidate);
    this.candidate = null;
  }

  /**
   * @param {Run} run
   * @returns {Segment}
   */
  toSegment({ label, start, end, mass }) {
    const shares = mass.map((value) => value / Math.max(end - start, 1e-9));
    const best = label ?? shares.indexOf(Math.max(...shares));
    const name = label === null ? UNKNOWN : this.classes[label];
    return { person: this.person, start, end, label, name, probability: Math.min(shares[best], 1) };
  }
}

/**
 * @param {Run} run
 * @param {Run} later
 */
function extend(run, later) {
  run.end = later.end;
  later.mass.forEach((value, i) => (run.mass[i] += value));
}

/**
 * Return the action with most of the persons' time, if that is enough of it; else unknown.
 * @param {Segment[]} segments
 * @param {number} mainShare smallest share of the time
 * @returns {{label: number | null, name: string, probability: number}}
 */
export function dominantAction(segments, mainShare) {
  /** @type {Map<number | null, {seconds: number, mass: number, first: Segment}>} */
  const totals = new Map();
  for (const segment of segments) {
    const total = totals.get(segment.label) ?? { seconds: 0, mass: 0, first: segment };
    total.seconds += segment.end - segment.start;
    total.mass += segment.probability * (segment.end - segment.start);
    totals.set(segment.label, total);
  }
  if (!totals.size) return { label: null, name: UNKNOWN, probability: 0 };
  const longest = [...totals].sort((a, b) => b[1].seconds - a[1].seconds);
  const all = longest.reduce((sum, [, { seconds }]) => sum + seconds, 0);
  const main = longest.find(([label, { seconds }]) => label !== null && seconds >= mainShare * all);
  const unknown = totals.get(null);
  // several actions, none long enough, and no unknown time: the longest
  const [label, { seconds, mass, first }] = main ?? (unknown ? [null, unknown] : longest[0]);
  return { label, name: first.name, probability: seconds ? mass / seconds : first.probability };
}
