// Segmentation: predictions over time merged into action segments, and the dominant action.
// The same rules as kinegraph/video/segmentation.py.

/** @import { Prediction, RecognitionSettings, Segment } from "./types.js" */

export const UNKNOWN = "unknown", SEVERAL_ACTIONS = "several actions";

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
   * @param {boolean} isStill whether the body is still, so that the action is unknown
   * @returns {Segment[]}
   */
  update(start, end, prediction, isStill) {
    const shares = new Float64Array(this.classes.length);
    for (const { label, probability } of prediction.candidates) shares[label] = probability;
    const label = isStill ? null : this.chooseLabel(prediction, shares);
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
    return { person: this.person, start, end, label, name, probability: Math.min(shares[best], 1), repetitions: 0 };
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
 * Return the action with most of the persons' time, several actions, or unknown.
 * @param {Segment[]} segments
 * @param {RecognitionSettings["segmenter"]} settings
 * @returns {{label: number | null, name: string, probability: number}}
 */
export function dominantAction(segments, { main_share: share, main_named_share: namedShare }) {
  const named = segments.filter(({ label }) => label !== null), labels = new Set(named.map(({ label }) => label));
  const total = sumSeconds(segments), namedTotal = sumSeconds(named);
  const [longest = []] = [...labels]
    .map((label) => named.filter((segment) => segment.label === label))
    .sort((a, b) => sumSeconds(b) - sumSeconds(a));
  const most = sumSeconds(longest);
  if (longest.length && most >= Math.max(share * total, namedShare * namedTotal)) {
    return { label: longest[0].label, name: longest[0].name, probability: meanProbability(longest) };
  }
  if (2 * namedTotal > total) return { label: null, name: SEVERAL_ACTIONS, probability: meanProbability(named) };
  const unknown = segments.filter(({ label }) => label === null);
  return { label: null, name: UNKNOWN, probability: meanProbability(unknown) };
}

/** @param {Segment[]} segments */
function sumSeconds(segments) {
  return segments.reduce((sum, { start, end }) => sum + end - start, 0);
}

/** @param {Segment[]} segments */
function meanProbability(segments) {
  const mass = segments.reduce((sum, { start, end, probability }) => sum + probability * (end - start), 0);
  return mass / sumSeconds(segments) || 0;
}
