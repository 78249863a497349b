// Drawing of pictures with skeletons, and of the lists and the timeline beside them.

import { labelColor, personColor, textOn, toCss } from "./colors.js";

/** @import { PersonResult, Results, Segment } from "./results.js" */

/** @typedef {{layout: string, bones: [number, number][], sides: string[], people: number}} Skeleton people: at most */
/** @typedef {{mirrored: boolean, byPerson: boolean}} DrawingOptions by person: in a color each */

const MIN_TIMELINE_S = 10; // minimum length of the timeline
const SIDE_COLORS = { left: "--blue", right: "--orange" };

const prefersDark = matchMedia("(prefers-color-scheme: dark)");

/**
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
  return /** @type {T} */ (document.getElementById(id));
}

/** @param {string} text empty to hide the notice */
export function showNotice(text) {
  const notice = byId("notice");
  if (notice.textContent !== text) notice.textContent = text;
  notice.hidden = !text;
}

/** @param {string} name */
export function displayName(name) {
  return name.replaceAll("_", " ");
}

/** @param {number} share */
function formatPercent(share) {
  return `${Math.round(100 * share)} %`;
}

/** @param {number} repetitions */
function formatTimes(repetitions) {
  return repetitions > 1 ? ` ${repetitions}\u00d7` : "";
}

/** @param {number} time */
export function formatTime(time) {
  return `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
}

/**
 * @param {string} kind
 * @param {string} [className]
 * @param {string} [text]
 */
export function createElement(kind, className = "", text = undefined) {
  const created = document.createElement(kind);
  created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

// ------------------------------------------------------------------ picture

/**
 * @param {HTMLCanvasElement} canvas
 * @param {ImageBitmap} bitmap which is closed
 * @param {PersonResult[]} persons
 * @param {Skeleton} skeleton
 * @param {DrawingOptions} options
 */
export function drawPicture(canvas, bitmap, persons, skeleton, { mirrored, byPerson }) {
  if (canvas.width !== bitmap.width || canvas.height !== bitmap.height) {
    canvas.width = bitmap.width;
    canvas.height = bitmap.height;
  }
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d")), { width } = canvas;
  context.save();
  if (mirrored) context.setTransform(-1, 0, 0, 1, width, 0);
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  context.restore();
  const size = Math.max(2, Math.min(width, canvas.height) / 130);
  context.lineCap = "round";
  for (const person of persons) {
    const joints = person.joints.map((joint) => (joint && mirrored ? [width - joint[0], joint[1]] : joint));
    const own = byPerson ? toCss(personColor(person.person)) : null;
    for (const [a, b] of skeleton.bones) {
      const [from, to] = [joints[a], joints[b]];
      if (!from || !to) continue;
      drawLine(context, from, to, 1.8 * size, "#0008");
      drawLine(context, from, to, size, own ?? sideColor(skeleton.sides[a], skeleton.sides[b]));
    }
    for (const joint of joints) if (joint) drawPoint(context, joint, 0.9 * size);
    drawLabel(context, joints, person, own, size);
  }
}

/**
 * @param {string} a
 * @param {string} b
 */
function sideColor(a, b) {
  if (a !== b || !(a in SIDE_COLORS)) return "#fff";
  const variable = SIDE_COLORS[/** @type {"left" | "right"} */ (a)];
  return getComputedStyle(document.documentElement).getPropertyValue(variable);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} from
 * @param {number[]} to
 * @param {number} width
 * @param {string} color
 */
function drawLine(context, from, to, width, color) {
  context.lineWidth = width;
  context.strokeStyle = color;
  context.beginPath();
  context.moveTo(from[0], from[1]);
  context.lineTo(to[0], to[1]);
  context.stroke();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number[]} point
 * @param {number} radius
 */
function drawPoint(context, [x, y], radius) {
  context.fillStyle = "#fff";
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {(number[] | null)[]} joints
 * @param {PersonResult} person
 * @param {string | null} color of the person
 * @param {number} size
 */
function drawLabel(context, joints, { person, label, name, probability, repetitions }, color, size) {
  const seen = /** @type {number[][]} */ (joints.filter(Boolean));
  if (name === null || !seen.length) return;
  const named = label === null ? "unknown" : `${displayName(name)} ${formatPercent(probability)}`;
  const action = named + formatTimes(repetitions);
  const text = color ? `${person}: ${action}` : action, { canvas } = context;
  context.font = `600 ${Math.round(4.6 * size)}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 3 * size, height = 6.6 * size;
  const middle = seen.reduce((sum, [x]) => sum + x, 0) / seen.length;
  const x = Math.min(Math.max(middle - width / 2, 4), canvas.width - width - 4);
  const y = Math.max(Math.min(...seen.map((joint) => joint[1])) - height - 5 * size, 4);
  context.fillStyle = "#000c";
  context.beginPath();
  context.roundRect(x, y, width, height, 1.5 * size);
  context.fill();
  context.fillStyle = color ?? "#fff";
  context.fillText(text, x + 1.5 * size, y + 4.9 * size);
}

// ------------------------------------------------------------------ persons

/**
 * @param {PersonResult[]} persons
 * @param {boolean} byPerson
 */
export function showPersons(persons, byPerson) {
  const cards = persons.map((person) => createCard(person, byPerson));
  if (!cards.length) cards.push(createElement("p", "name muted", "No person visible"));
  const people = byId("people"), text = cards.map((card) => card.textContent).join();
  if (people.dataset.text !== text) people.replaceChildren(...cards);
  people.dataset.text = text;
  const names = persons.flatMap(({ label, name }) => (label === null || name === null ? [] : [displayName(name)]));
  for (const item of byId("actions").children) item.classList.toggle("active", names.includes(item.textContent ?? ""));
  announce(persons);
}

/**
 * @param {PersonResult} person
 * @param {boolean} byPerson
 */
function createCard({ person, label, name, probability, repetitions }, byPerson) {
  const card = createElement("div", "person");
  if (byPerson) {
    card.append(createPersonName(person));
    card.style.borderLeftColor = toCss(personColor(person));
  }
  card.classList.toggle("several", byPerson);
  if (name === null) {
    card.append(createElement("p", "name muted", "Waiting …"));
    return card;
  }
  card.append(createElement("p", label === null ? "name muted" : "name", displayName(name)));
  const bar = createElement("div", "bar"), filled = createElement("i");
  filled.style.width = `${100 * probability}%`;
  bar.append(filled);
  const share = createElement("div", "share");
  const meaning = label === null ? "probability of best guess" : "probability";
  share.append(createElement("span", "muted", meaning), createElement("b", "", formatPercent(probability)));
  card.append(bar, share);
  if (repetitions > 1) {
    const count = createElement("div", "share");
    count.append(createElement("span", "muted", "repetitions"), createElement("b", "", String(repetitions)));
    card.append(count);
  }
  return card;
}

/** @param {number} person */
function createPersonName(person) {
  const name = createElement("p", "muted small", `Person ${person}`), dot = createElement("i", "dot");
  dot.style.background = toCss(personColor(person));
  name.prepend(dot);
  return name;
}

/**
 * Announce the actions to screen readers, only when these change.
 * @param {PersonResult[]} persons
 */
function announce(persons) {
  const known = persons.filter(({ name }) => name !== null);
  const text = known.map(({ person, name }) => `Person ${person}: ${displayName(name ?? "")}`).join(". ");
  if (byId("announcement").textContent !== text) byId("announcement").textContent = text;
}

// ------------------------------------------------------------------ timeline

/**
 * @param {Results} results
 * @param {number} time of the latest picture
 */
export function drawTimeline(results, time) {
  const rows = results.persons.map((person) => /** @type {const} */ ([person, [
    ...(results.segments.get(person) ?? []).map((segment) => ({ segment, isOpen: false })),
    ...(results.open.get(person) ?? []).map((segment) => ({ segment, isOpen: true })),
  ]]));
  const ends = rows.flatMap(([, segments]) => segments.map(({ segment }) => segment.end));
  const end = Math.max(MIN_TIMELINE_S, time, ...ends);
  if (rows.length) {
    byId("rows").replaceChildren(...rows.map(([person, segments]) => createRow(person, segments, end, rows.length > 1)));
  }
  const marks = [0, 1, 2, 3, 4].map((i) => {
    const mark = createElement("span", "", formatTime((i * end) / 4));
    mark.style.left = `${25 * i}%`;
    return mark;
  });
  byId("scale").replaceChildren(...marks);
  const items = [...results.segments.values()].flat().map(describeSegment);
  const list = byId("list");
  if (list.childElementCount !== items.length) {
    list.replaceChildren(...items.map((text) => createElement("li", "", text)));
  }
}

/** @param {Segment} segment */
function describeSegment({ person, start, end, name, probability, repetitions }) {
  const times = repetitions > 1 ? `, ${repetitions} repetitions` : "";
  return `person ${person}, ${formatTime(start)} to ${formatTime(end)}: ${displayName(name)} (${formatPercent(probability)})${times}`;
}

/**
 * @param {number} person
 * @param {readonly {segment: Segment, isOpen: boolean}[]} segments
 * @param {number} end of the timeline
 * @param {boolean} byPerson
 */
function createRow(person, segments, end, byPerson) {
  const row = createElement("div", "row"), head = createElement("b", "", `Person ${person}`);
  if (byPerson) {
    const dot = createElement("i", "dot");
    dot.style.background = toCss(personColor(person));
    head.prepend(dot);
  }
  row.append(head);
  for (const { segment, isOpen } of segments) {
    const one = createElement("div", "segment", displayName(segment.name) + formatTimes(segment.repetitions));
    one.style.left = `${(100 * segment.start) / end}%`;
    one.style.width = `${(100 * (segment.end - segment.start)) / end}%`;
    one.title = describeSegment(segment);
    one.classList.toggle("unknown", segment.label === null);
    one.classList.toggle("open", isOpen);
    if (segment.label !== null) {
      const color = labelColor(segment.label, prefersDark.matches);
      one.style.background = toCss(color);
      one.style.color = toCss(textOn(color));
    }
    row.append(one);
  }
  return row;
}

/** @param {Results} results */
export function showMainAction({ main }) {
  if (!main) return;
  byId("main").hidden = false;
  const named = main.label === null ? main.name : `${displayName(main.name)} (${formatPercent(main.probability)})`;
  byId("main").textContent = `Main action: ${main.name === "unknown" ? "unknown to this model" : named}`;
}
