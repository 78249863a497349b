// Send the images of a video or camera to the server, and draw the persons and actions in them.

const MAX_IMAGE_SIDE = 640; // pixels of the longer side of the images that are sent
const MAX_PENDING_IMAGES = 2; // images that are sent and not answered
const FRAME_RATE = 30;
const MIN_TIMELINE_S = 10; // minimum length of the timeline
const SIDE_COLORS = { left: "--blue", right: "--orange", trunk: "--trunk" };

const byId = (id) => document.getElementById(id);
const stage = byId("stage"), picture = byId("picture"), video = byId("video"), notice = byId("notice");
const context = picture.getContext("2d");
const sendCanvas = document.createElement("canvas");
const token = new URLSearchParams(location.hash.slice(1)).get("token");

let session = null;

function showNotice(text) {
  notice.textContent = text;
  notice.hidden = !text;
}

function displayName(name) {
  return name.replaceAll("_", " ");
}

function formatPercent(share) {
  return `${Math.round(100 * share)} %`;
}

function formatTime(time) {
  return `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
}

function labelColor(label) {
  const style = getComputedStyle(document.documentElement);
  const [strength, light] = ["--strength", "--light"].map((name) => style.getPropertyValue(name));
  return `hsl(${(207 + label * 137.508) % 360} ${strength} ${light})`;
}

// ------------------------------------------------------------------ server

async function loadModelInfo() {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch("/v1/model", { headers });
  const model = await response.json();
  if (!response.ok) {
    byId("about").textContent = "";
    showNotice(response.status === 401 ? "This server requires a token. Add #token=… to the address of this page." : model.error);
    return;
  }
  const names = model.classes.filter((_, label) => label !== model.background).map(displayName);
  byId("about").textContent = `${model.name}: ${names.length} actions`;
  byId("actions").replaceChildren(...names.map((name) => createElement("li", "", name)));
  if (!model.video.available) {
    showNotice(`This server cannot process videos: ${model.video.requirement}`);
    enableInputs(false);
    document.querySelector(".button").classList.add("off");
  }
}

function openSocket() {
  const address = new URL("/v1/video", location.href);
  address.protocol = location.protocol.replace("http", "ws");
  address.hash = "";
  const protocols = ["kinegraph"];
  if (token) {
    const text = btoa(String.fromCharCode(...new TextEncoder().encode(token)));
    protocols.push("token." + text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""));
  }
  const socket = new WebSocket(address, protocols);
  socket.binaryType = "arraybuffer";
  return socket;
}

// ------------------------------------------------------------------ one video

class Session {
  constructor(live) {
    this.live = live;
    this.skeleton = null;
    this.pendingImages = new Map(); // time -> bitmap
    this.isSending = false;
    this.hasEnded = false;
    this.startTime = performance.now();
    this.lastSentTime = -1;
    this.answerTimes = [];
    this.segments = new Map(); // person -> final segments
    this.openSegments = new Map(); // person -> segments that the server may still change
    this.socket = openSocket();
    this.socket.onmessage = (event) => this.onMessage(JSON.parse(event.data));
    this.socket.onclose = () => this.end();
    this.socket.onerror = () => showNotice("The connection to the server failed.");
    byId("state").textContent = "Loading the pose estimator …";
    this.tick();
  }

  get time() {
    return this.live ? (performance.now() - this.startTime) / 1000 : video.currentTime;
  }

  tick() {
    if (this.hasEnded) return;
    if (this.skeleton && !this.isSending && this.pendingImages.size < MAX_PENDING_IMAGES && this.time - this.lastSentTime >= 0.9 / FRAME_RATE) {
      this.send();
    }
    if (!this.live && video.ended && this.skeleton && !this.isSending && !this.pendingImages.size && !this.endRequested) {
      this.endRequested = true;
      this.socket.send(JSON.stringify({ end: true }));
    }
    setTimeout(() => this.tick(), 8);
  }

  async send() {
    if (!video.videoWidth || (video.ended && !this.live)) return;
    this.isSending = true;
    const time = this.time;
    const share = Math.min(1, MAX_IMAGE_SIDE / Math.max(video.videoWidth, video.videoHeight));
    sendCanvas.width = Math.round(video.videoWidth * share);
    sendCanvas.height = Math.round(video.videoHeight * share);
    sendCanvas.getContext("2d").drawImage(video, 0, 0, sendCanvas.width, sendCanvas.height);
    const bitmap = await createImageBitmap(sendCanvas);
    const jpeg = await new Promise((done) => sendCanvas.toBlob(done, "image/jpeg", 0.85));
    const bytes = await jpeg.arrayBuffer();
    const message = new Uint8Array(8 + bytes.byteLength);
    new DataView(message.buffer).setFloat64(0, time, true);
    message.set(new Uint8Array(bytes), 8);
    this.lastSentTime = time;
    this.pendingImages.set(time, bitmap);
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
    this.isSending = false;
  }

  onMessage(message) {
    if (message.error) {
      this.pendingImages.clear();
      showNotice(message.error);
    } else if (message.bones) {
      this.skeleton = message;
      this.startTime = performance.now();
      byId("state").textContent = "";
      video.play().catch((error) => showNotice(`The video cannot be played: ${error.message}`));
    } else if (message.end) {
      this.addSegments(message.segments);
      this.dominantAction = message.main;
      this.end();
    } else {
      this.showResult(message);
    }
  }

  showResult(result) {
    const bitmap = this.pendingImages.get(result.time);
    for (const time of [...this.pendingImages.keys()]) if (time <= result.time) this.pendingImages.delete(time);
    if (bitmap) drawPersons(bitmap, result, this.skeleton);
    this.addSegments(result.segments);
    for (const person of result.persons) this.extendOpenSegment(person, result.time);
    this.answerTimes = [...this.answerTimes.filter((t) => t > performance.now() - 2000), performance.now()];
    showPersons(result.persons, this);
    drawTimeline(this);
    this.lastResultTime = result.time;
  }

  // An open segment grows while the predicted action stays the same.
  extendOpenSegment(person, time) {
    if (person.name === null) return;
    const open = this.openSegments.get(person.person) ?? [];
    this.openSegments.set(person.person, open);
    const last = open.at(-1);
    if (last && last.name === person.name) {
      last.end = time;
      last.probability = person.probability;
    } else {
      open.push({ ...person, start: last ? last.end : (this.lastResultTime ?? time), end: time });
    }
  }

  addSegments(segments) {
    for (const segment of segments) {
      const own = this.segments.get(segment.person) ?? [];
      own.push(segment);
      this.segments.set(segment.person, own);
      const open = (this.openSegments.get(segment.person) ?? []).filter((segment) => segment.end > segment.end);
      for (const segment of open) segment.start = Math.max(segment.start, segment.end);
      this.openSegments.set(segment.person, open);
    }
  }

  end() {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.socket.close();
    if (this.live) for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.pause();
    byId("stop").hidden = true;
    byId("state").textContent = this.answerTimes.length ? "Finished" : "";
    drawTimeline(this);
    if (this.dominantAction) {
      const { name, probability } = this.dominantAction;
      byId("main").hidden = false;
      byId("main").textContent = name === "unknown" ? "Main action: unknown to this model" : `Main action: ${displayName(name)} (${formatPercent(probability)})`;
    }
    if (!this.answerTimes.length) stage.classList.remove("playing");
    byId("restart").hidden = !stage.classList.contains("playing");
    enableInputs(true);
  }
}

// ------------------------------------------------------------------ display

function drawPersons(bitmap, result, skeleton) {
  if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
    picture.width = bitmap.width;
    picture.height = bitmap.height;
  }
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const style = getComputedStyle(document.documentElement);
  const size = Math.max(2, Math.min(picture.width, picture.height) / 130);
  context.lineCap = "round";
  for (const { joints, person, name, probability } of result.persons) {
    for (const [a, b] of skeleton.bones) {
      if (!joints[a] || !joints[b]) continue;
      const side = skeleton.sides[a] === skeleton.sides[b] ? skeleton.sides[a] : "trunk";
      drawLine(joints[a], joints[b], 1.8 * size, "#0008");
      drawLine(joints[a], joints[b], size, side === "trunk" ? "#fff" : style.getPropertyValue(SIDE_COLORS[side]));
    }
    for (const joint of joints) if (joint) drawPoint(joint, 0.9 * size);
    drawLabel(joints, result.persons.length > 1 ? `${person}: ` : "", name, probability, size);
  }
  picture.setAttribute("aria-label", `${result.persons.length} persons at ${formatTime(result.time)}`);
}

function drawLine([x, y], [u, v], width, ink) {
  context.lineWidth = width;
  context.strokeStyle = ink;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(u, v);
  context.stroke();
}

function drawPoint([x, y], radius) {
  context.fillStyle = "#fff";
  context.beginPath();
  context.arc(x, y, radius, 0, 2 * Math.PI);
  context.fill();
}

function drawLabel(joints, prefix, name, probability, size) {
  if (name === null) return;
  const seen = joints.filter(Boolean);
  if (!seen.length) return;
  const text = prefix + (name === "unknown" ? "unknown" : `${displayName(name)} ${formatPercent(probability)}`);
  context.font = `600 ${Math.round(4.6 * size)}px system-ui, sans-serif`;
  const width = context.measureText(text).width + 3 * size, height = 6.6 * size;
  const middle = seen.reduce((sum, [x]) => sum + x, 0) / seen.length;
  const x = Math.min(Math.max(middle - width / 2, 4), picture.width - width - 4);
  const y = Math.max(Math.min(...seen.map((joint) => joint[1])) - height - 5 * size, 4);
  context.fillStyle = "#000b";
  context.beginPath();
  context.roundRect(x, y, width, height, 1.5 * size);
  context.fill();
  context.fillStyle = "#fff";
  context.fillText(text, x + 1.5 * size, y + 4.9 * size);
}

function createElement(kind, className, text) {
  const created = document.createElement(kind);
  created.className = className;
  if (text !== undefined) created.textContent = text;
  return created;
}

function showPersons(persons, session) {
  const shown = persons.map((person) => {
    const card = createElement("div", "person");
    if (persons.length > 1) card.append(createElement("p", "muted small", `Person ${person.person}`));
    const waiting = person.name === null, unknown = person.name === "unknown";
    card.append(createElement("p", waiting || unknown ? "name muted" : "name", waiting ? "Waiting …" : displayName(person.name)));
    if (!waiting) {
      const bar = createElement("div", "bar"), filled = createElement("i", "");
      filled.style.width = `${100 * person.probability}%`;
      bar.append(filled);
      const share = createElement("div", "share");
      share.append(createElement("span", "muted", unknown ? "probability of the best guess" : "probability"), createElement("b", "", formatPercent(person.probability)));
      card.append(bar, share);
    }
    return card;
  });
  if (!shown.length) shown.push(createElement("p", "name muted", "No person visible"));
  const people = byId("people"), text = shown.map((card) => card.textContent).join();
  if (people.dataset.text !== text) people.replaceChildren(...shown);
  people.dataset.text = text;
  const active = new Set(persons.filter((person) => person.label !== null).map((person) => displayName(person.name)));
  for (const item of byId("actions").children) item.classList.toggle("active", active.has(item.textContent));
  byId("state").textContent = `${formatTime(session.lastSentTime)} · ${Math.round(session.answerTimes.length / 2)} images/s${session.skeleton.people === 1 ? " · one person at a time" : ""}`;
}

function drawTimeline(session) {
  const persons = [...new Set([...session.segments.keys(), ...session.openSegments.keys()])].sort((a, b) => a - b);
  const all = persons.map((person) => [person, [
    ...(session.segments.get(person) ?? []),
    ...(session.openSegments.get(person) ?? []).map((segment) => ({ ...segment, open: true })),
  ]]);
  const end = Math.max(MIN_TIMELINE_S, session.lastSentTime, ...all.flatMap(([, segments]) => segments.map((segment) => segment.end)));
  if (all.length) byId("rows").replaceChildren(...all.map(([person, segments]) => timelineRow(person, segments, end)));
  const marks = [0, 1, 2, 3, 4].map((i) => {
    const mark = createElement("span", "", formatTime((i * end) / 4));
    mark.style.left = `${25 * i - (i === 4 ? 2 : 0)}%`;
    return mark;
  });
  byId("scale").replaceChildren(...marks);
  const items = all.flatMap(([, segments]) => segments.filter((segment) => !segment.open).map(describeSegment));
  if (byId("list").childElementCount !== items.length) byId("list").replaceChildren(...items.map((text) => createElement("li", "", text)));
}

function describeSegment({ person, start, end, name, probability }) {
  return `person ${person}, ${formatTime(start)} to ${formatTime(end)}: ${displayName(name)} (${formatPercent(probability)})`;
}

function timelineRow(person, segments, end) {
  const created = createElement("div", "row");
  created.append(createElement("b", "", `Person ${person}`));
  for (const segment of segments) {
    const one = createElement("div", "segment", displayName(segment.name));
    one.style.left = `${(100 * segment.start) / end}%`;
    one.style.width = `${(100 * (segment.end - segment.start)) / end}%`;
    one.title = describeSegment({ ...segment, person });
    one.classList.toggle("unknown", segment.label === null);
    one.classList.toggle("open", Boolean(segment.open));
    if (segment.label !== null) one.style.background = labelColor(segment.label);
    created.append(one);
  }
  return created;
}

// ------------------------------------------------------------------ inputs

function enableInputs(enabled) {
  for (const one of ["camera", "restart-camera", "file"]) byId(one).disabled = !enabled;
}

function startSession(live) {
  showNotice("");
  enableInputs(false);
  stage.classList.add("playing");
  byId("stop").hidden = false;
  byId("main").hidden = true;
  byId("rows").replaceChildren();
  byId("list").replaceChildren();
  byId("restart").hidden = true;
  byId("people").replaceChildren(createElement("p", "name muted", "Waiting …"));
  session?.end();
  enableInputs(false);
  session = new Session(live);
}

function playFile(file) {
  if (session && !session.hasEnded) session.end();
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  video.onerror = () => {
    session?.end();
    stage.classList.remove("playing");
    showNotice(`This browser cannot play ${file.name}. Try an MP4 (H.264) or WebM file.`);
  };
  video.onloadeddata = () => startSession(false);
}

async function startCamera() {
  if (!navigator.mediaDevices) {
    showNotice("Browsers allow the camera only on localhost or over HTTPS.");
    return;
  }
  try {
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: FRAME_RATE } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    video.onerror = null;
    video.onloadeddata = () => startSession(true);
    video.srcObject = stream;
  } catch (error) {
    showNotice(`The camera is not available: ${error.message}`);
  }
}

byId("camera").addEventListener("click", startCamera);
byId("restart-camera").addEventListener("click", startCamera);
byId("stop").addEventListener("click", () => {
  if (session?.socket.readyState === WebSocket.OPEN && !session.endRequested) {
    session.endRequested = true;
    session.socket.send(JSON.stringify({ end: true }));
  } else {
    session?.end();
  }
});
byId("file").addEventListener("change", (event) => {
  if (event.target.files[0]) playFile(event.target.files[0]);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.add("over");
  });
}
for (const kind of ["dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    stage.classList.remove("over");
  });
}
document.addEventListener("drop", (event) => {
  const file = event.dataTransfer?.files[0];
  if (file && !byId("file").disabled) playFile(file);
});
loadModelInfo().catch(() => showNotice("The server does not respond."));
