// The results of a video: segments that ended, segments that still grow, and their export.

/**
 * @typedef {object} Segment
 * @property {number} person
 * @property {number} start
 * @property {number} end
 * @property {number | null} label
 * @property {string} name
 * @property {number} probability
 * @property {number} repetitions of a movement within it
 */

/**
 * The state of a person in one picture; `name` is null while there is no prediction.
 * @typedef {object} PersonResult
 * @property {number} person
 * @property {([number, number] | null)[]} joints
 * @property {number | null} label
 * @property {string | null} name
 * @property {number} probability
 * @property {number} repetitions since the last segment that ended
 */

/** @typedef {{label: number | null, name: string, probability: number}} DominantAction */

export class Results {
  constructor() {
    /** @type {Map<number, Segment[]>} final segments by person */
    this.segments = new Map();
    /** @type {Map<number, Segment[]>} segments that may still change, by person */
    this.open = new Map();
    /** @type {DominantAction | null} */
    this.main = null;
    this.lastTime = 0;
    this.offset = 0; // added to person numbers, which start again after a reconnection
    this.hasPictures = false;
  }

  get persons() {
    return [...new Set([...this.segments.keys(), ...this.open.keys()])].sort((a, b) => a - b);
  }

  /** Person numbers of a new connection follow those of the one before. */
  startConnection() {
    this.offset = Math.max(0, ...this.persons);
    for (const person of [...this.open.keys()]) this.addSegments(this.close(person));
  }

  /**
   * @param {{time: number, persons: PersonResult[], segments: Segment[]}} result
   */
  add({ time, persons, segments }) {
    this.addSegments(segments);
    for (const person of persons) this.extend(person, time);
    this.lastTime = time;
    this.hasPictures = true;
  }

  /**
   * Add the answer to the end of a video.
   * @param {{segments: Segment[], main: DominantAction}} result
   */
  finish({ segments, main }) {
    this.addSegments(segments);
    this.open.clear();
    this.main = main;
  }

  /**
   * Add segments that ended, in place of what was open up to their end.
   * @param {Segment[]} segments
   */
  addSegments(segments) {
    for (const segment of segments) {
      this.segments.set(segment.person, [...(this.segments.get(segment.person) ?? []), segment]);
      const open = (this.open.get(segment.person) ?? []).filter(({ end }) => end > segment.end);
      for (const later of open) later.start = Math.max(later.start, segment.end);
      this.open.set(segment.person, open);
    }
  }

  /**
   * An open segment grows while the predicted action stays the same.
   * @param {PersonResult} person
   * @param {number} time
   */
  extend({ person, label, name, probability, repetitions }, time) {
    if (name === null) return;
    const open = this.open.get(person) ?? [], last = open.at(-1);
    this.open.set(person, open);
    if (last && last.name === name) {
      last.end = time;
      last.probability = probability;
      // those of all open segments together
      last.repetitions = Math.max(0, repetitions - open.slice(0, -1).reduce((sum, one) => sum + one.repetitions, 0));
    } else {
      const known = last ?? this.segments.get(person)?.at(-1);
      const start = Math.min(Math.max(last ? 0 : this.lastTime, known?.end ?? 0), time);
      open.push({ person, label, name, probability, repetitions: last ? 0 : repetitions, start, end: time });
    }
  }

  /**
   * Return the open segments of a person, which becomes final.
   * @param {number} person
   */
  close(person) {
    const open = this.open.get(person) ?? [];
    this.open.delete(person);
    return open;
  }

  /** Return the object that `kinegraph watch --json` prints. */
  toJson() {
    const segments = [...this.segments.values()].flat().sort((a, b) => a.start - b.start || a.person - b.person);
    return { main: this.main, segments: segments.map(roundSegment) };
  }

  /** Return the segments as a table with a head. */
  toCsv() {
    const rows = this.toJson().segments.map((segment) =>
      [segment.person, segment.start, segment.end, quote(segment.name), segment.probability, segment.repetitions].join(","),
    );
    return ["person,start,end,name,probability,repetitions", ...rows, ""].join("\r\n");
  }
}

/** @param {Segment} segment */
function roundSegment({ person, start, end, label, name, probability, repetitions }) {
  const rounded = (/** @type {number} */ value, /** @type {number} */ digits) => Number(value.toFixed(digits));
  const times = { start: rounded(start, 3), end: rounded(end, 3) };
  return { person, ...times, label, name, probability: rounded(probability, 4), repetitions };
}

/** @param {string} text */
function quote(text) {
  // a spreadsheet would compute a cell that starts with one of these
  const safe = /^[=+@-]/.test(text) ? `'${text}` : text;
  return /[",\r\n']/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}
