// Takes of new actions: the joints of a person over time, as examples for the server.

/** @import { PersonResult } from "./results.js" */

/** @typedef {{time: number, joints: ([number, number] | null)[]}} TakeFrame */
/** @typedef {{joints: ([number, number] | null)[][], fps: number, layout: string, space: object}} Take */

const MIN_TAKE_S = 0.5;

/** The takes of each action, and the take that is being recorded. */
export class Takes {
  constructor() {
    /** @type {Map<string, Take[]>} */
    this.byAction = new Map();
    /** @type {Map<number, TakeFrame[]> | null} frames by person */
    this.frames = null;
  }

  get isRecording() {
    return this.frames !== null;
  }

  start() {
    this.frames = new Map();
  }

  /**
   * Add the persons of a picture to the take that is being recorded.
   * @param {number} time in seconds
   * @param {PersonResult[]} persons
   */
  add(time, persons) {
    if (!this.frames) return;
    for (const { person, joints } of persons) {
      const known = this.frames.get(person) ?? [];
      if (!known.length || time > known[known.length - 1].time) known.push({ time, joints });
      this.frames.set(person, known);
    }
  }

  /**
   * End the take and keep the person who was visible longest.
   * @param {string} action
   * @param {string} layout of the joints
   * @returns {string} why the take is not kept, or ""
   */
  stop(action, layout) {
    const found = [...(this.frames?.values() ?? [])].sort((a, b) => b.length - a.length)[0] ?? [];
    this.frames = null;
    const seconds = found.length ? found[found.length - 1].time - found[0].time : 0;
    if (seconds < MIN_TAKE_S) return "The take is too short, or no person is visible in it.";
    const joints = found.map((frame) => frame.joints.map(roundPoint));
    const space = { kind: "image", unit: "pixel" };
    const take = { joints, fps: (found.length - 1) / seconds, layout, space };
    this.byAction.set(action, [...(this.byAction.get(action) ?? []), take]);
    return "";
  }

  /** Return the body of a request to the server. */
  toJson() {
    return JSON.stringify({ examples: Object.fromEntries(this.byAction) });
  }
}

/**
 * @param {[number, number] | null} point
 * @returns {[number, number] | null}
 */
function roundPoint(point) {
  return point && [Math.round(10 * point[0]) / 10, Math.round(10 * point[1]) / 10];
}
