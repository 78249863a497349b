// Pictures of a video or camera go to the server; what it sees in them is drawn over them.

const WIDEST = 640; // pixels of the pictures that are sent
const UNDERWAY = 2; // pictures that are not answered yet
const RATE = 30;
const SHORTEST = 10; // seconds that the timeline shows at least
const COLOURS = { left: "--blue", right: "--orange", trunk: "--trunk" };

const get = (id) => document.getElementById(id);
const stage = get("stage"), picture = get("picture"), video = get("video"), notice = get("notice");
const pen = picture.getContext("2d");
const small = document.createElement("canvas");
const token = new URLSearchParams(location.hash.slice(1)).get("token");

let session = null;

function says(sentence) {
  notice.textContent = sentence;
  notice.hidden = !sentence;
}

function readable(name) {
  return name.replaceAll("_", " ");
}

function percent(share) {
  return `${Math.round(100 * share)} %`;
}

function seconds(time) {
  return `${Math.floor(time / 60)}:${(time % 60).toFixed(1).padStart(4, "0")}`;
}

function colour(label) {
  const style = getComputedStyle(document.documentElement);
  const [strength, light] = ["--strength", "--light"].map((name) => style.getPropertyValue(name));
  return `hsl(${(207 + label * 137.508) % 360} ${strength} ${light})`;
}

// ------------------------------------------------------------------ the server

async function introduce() {
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const answer = await fetch("/v1/model", { headers });
  const told = await answer.json();
  if (!answer.ok) {
    get("about").textContent = "";
    says(answer.status === 401 ? "This server asks for a token: open this page with #token=… at the end of its address." : told.error);
    return;
  }
  const names = told.classes.filter((_, label) => label !== told.background).map(readable);
  get("about").textContent = `${told.name}: ${names.length} actions`;
  get("known").replaceChildren(...names.map((name) => element("li", "", name)));
  if (!told.video.available) {
    says(`Videos cannot be watched yet: ${told.video.requirement}`);
    allow(false);
    document.querySelector(".button").classList.add("off");
  }
}

function connection() {
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

// ------------------------------------------------------------------ one video, from start to end

class Session {
  constructor(live) {
    this.live = live;
    this.body = null;
    this.pictures = new Map(); // time -> bitmap
    this.busy = false;
    this.over = false;
    this.began = performance.now();
    this.latest = -1;
    this.answered = 0;
    this.moments = [];
    this.pieces = new Map(); // person -> pieces that are over
    this.open = new Map(); // person -> pieces that the server has not settled
    this.socket = connection();
    this.socket.onmessage = (event) => this.hear(JSON.parse(event.data));
    this.socket.onclose = () => this.end();
    this.socket.onerror = () => says("The connection to the server failed.");
    get("state").textContent = "making the pose estimator ready …";
    this.step();
  }

  get time() {
    return this.live ? (performance.now() - this.began) / 1000 : video.currentTime;
  }

  step() {
    if (this.over) return;
    if (this.body && !this.busy && this.pictures.size < UNDERWAY && this.time - this.latest >= 0.9 / RATE) {
      this.send();
    }
    if (!this.live && video.ended && this.body && !this.busy && !this.pictures.size && !this.asked) {
      this.asked = true;
      this.socket.send(JSON.stringify({ end: true }));
    }
    setTimeout(() => this.step(), 8);
  }

  async send() {
    if (!video.videoWidth || (video.ended && !this.live)) return;
    this.busy = true;
    const time = this.time;
    const share = Math.min(1, WIDEST / Math.max(video.videoWidth, video.videoHeight));
    small.width = Math.round(video.videoWidth * share);
    small.height = Math.round(video.videoHeight * share);
    small.getContext("2d").drawImage(video, 0, 0, small.width, small.height);
    const bitmap = await createImageBitmap(small);
    const jpeg = await new Promise((done) => small.toBlob(done, "image/jpeg", 0.85));
    const bytes = await jpeg.arrayBuffer();
    const message = new Uint8Array(8 + bytes.byteLength);
    new DataView(message.buffer).setFloat64(0, time, true);
    message.set(new Uint8Array(bytes), 8);
    this.latest = time;
    this.pictures.set(time, bitmap);
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(message);
    this.busy = false;
  }

  hear(told) {
    if (told.error) {
      this.pictures.clear();
      says(told.error);
    } else if (told.bones) {
      this.body = told;
      this.began = performance.now();
      get("state").textContent = "";
      video.play().catch((error) => says(`The video does not play: ${error.message}`));
    } else if (told.end) {
      this.settle(told.segments);
      this.summary = told.main;
      this.end();
    } else {
      this.see(told);
    }
  }

  see(told) {
    const bitmap = this.pictures.get(told.time);
    for (const time of [...this.pictures.keys()]) if (time <= told.time) this.pictures.delete(time);
    if (bitmap) draw(bitmap, told, this.body);
    this.settle(told.segments);
    for (const person of told.persons) this.note(person, told.time);
    this.moments = [...this.moments.filter((t) => t > performance.now() - 2000), performance.now()];
    tell(told.persons, this);
    line(this);
    this.before = told.time;
  }

  // A piece that is not settled goes on while the answer stays.
  note(person, time) {
    if (person.name === null) return;
    const open = this.open.get(person.person) ?? [];
    this.open.set(person.person, open);
    const last = open.at(-1);
    if (last && last.name === person.name) {
      last.end = time;
      last.probability = person.probability;
    } else {
      open.push({ ...person, start: last ? last.end : (this.before ?? time), end: time });
    }
  }

  settle(segments) {
    for (const segment of segments) {
      const pieces = this.pieces.get(segment.person) ?? [];
      pieces.push(segment);
      this.pieces.set(segment.person, pieces);
      const open = (this.open.get(segment.person) ?? []).filter((piece) => piece.end > segment.end);
      for (const piece of open) piece.start = Math.max(piece.start, segment.end);
      this.open.set(segment.person, open);
    }
  }

  end() {
    if (this.over) return;
    this.over = true;
    this.socket.close();
    if (this.live) for (const track of video.srcObject?.getTracks() ?? []) track.stop();
    video.pause();
    get("stop").hidden = true;
    get("state").textContent = this.answered || this.moments.length ? "over" : "";
    line(this);
    if (this.summary) {
      const { name, probability } = this.summary;
      get("main").hidden = false;
      get("main").textContent = name === "unknown" ? "Mostly something that this model does not know." : `Mostly ${readable(name)} (${percent(probability)})`;
    }
    if (!this.moments.length) stage.classList.remove("playing");
    get("again").hidden = !stage.classList.contains("playing");
    allow(true);
  }
}

// ------------------------------------------------------------------ what is shown

function draw(bitmap, told, body) {
  if (picture.width !== bitmap.width || picture.height !== bitmap.height) {
    picture.width = bitmap.width;
    picture.height = bitmap.height;
  }
  pen.drawImage(bitmap, 0, 0);
  bitmap.close();
  const style = getComputedStyle(document.documentElement);
  const size = Math.max(2, Math.min(picture.width, picture.height) / 130);
  pen.lineCap = "round";
  for (const { joints, person, name, probability } of told.persons) {
    for (const [a, b] of body.bones) {
      if (!joints[a] || !joints[b]) continue;
      const side = body.sides[a] === body.sides[b] ? body.sides[a] : "trunk";
      stroke(joints[a], joints[b], 1.8 * size, "#0008");
      stroke(joints[a], joints[b], size, side === "trunk" ? "#fff" : style.getPropertyValue(COLOURS[side]));
    }
    for (const joint of joints) if (joint) dot(joint, 0.9 * size);
    tag(joints, told.persons.length > 1 ? `${person}: ` : "", name, probability, size);
  }
  picture.setAttribute("aria-label", `${told.persons.length} persons at ${seconds(told.time)}`);
}

function stroke([x, y], [u, v], width, ink) {
  pen.lineWidth = width;
  pen.strokeStyle = ink;
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(u, v);
  pen.stroke();
}

function dot([x, y], radius) {
  pen.fillStyle = "#fff";
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

function tag(joints, whose, name, probability, size) {
  if (name === null) return;
  const seen = joints.filter(Boolean);
  if (!seen.length) return;
  const text = whose + (name === "unknown" ? "unknown" : `${readable(name)} ${percent(probability)}`);
  pen.font = `600 ${Math.round(4.6 * size)}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + 3 * size, height = 6.6 * size;
  const middle = seen.reduce((sum, [x]) => sum + x, 0) / seen.length;
  const x = Math.min(Math.max(middle - width / 2, 4), picture.width - width - 4);
  const y = Math.max(Math.min(...seen.map((joint) => joint[1])) - height - 5 * size, 4);
  pen.fillStyle = "#000b";
  pen.beginPath();
  pen.roundRect(x, y, width, height, 1.5 * size);
  pen.fill();
  pen.fillStyle = "#fff";
  pen.fillText(text, x + 1.5 * size, y + 4.9 * size);
}

function element(kind, className, text) {
  const made = document.createElement(kind);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function tell(persons, session) {
  const shown = persons.map((person) => {
    const card = element("div", "person");
    if (persons.length > 1) card.append(element("p", "muted small", `Person ${person.person}`));
    const waiting = person.name === null, unknown = person.name === "unknown";
    card.append(element("p", waiting || unknown ? "name muted" : "name", waiting ? "looking …" : readable(person.name)));
    if (!waiting) {
      const bar = element("div", "bar"), filled = element("i", "");
      filled.style.width = `${100 * person.probability}%`;
      bar.append(filled);
      const share = element("div", "share");
      share.append(element("span", "muted", unknown ? "its best guess is only" : "probability"), element("b", "", percent(person.probability)));
      card.append(bar, share);
    }
    return card;
  });
  if (!shown.length) shown.push(element("p", "name muted", "nobody in view"));
  const people = get("people"), text = shown.map((card) => card.textContent).join();
  if (people.dataset.text !== text) people.replaceChildren(...shown);
  people.dataset.text = text;
  const done = new Set(persons.filter((person) => person.label !== null).map((person) => readable(person.name)));
  for (const known of get("known").children) known.classList.toggle("done", done.has(known.textContent));
  get("state").textContent = `${seconds(session.latest)} · ${Math.round(session.moments.length / 2)} pictures/s`;
}

function line(session) {
  const persons = [...new Set([...session.pieces.keys(), ...session.open.keys()])].sort((a, b) => a - b);
  const all = persons.map((person) => [person, [
    ...(session.pieces.get(person) ?? []),
    ...(session.open.get(person) ?? []).map((piece) => ({ ...piece, open: true })),
  ]]);
  const end = Math.max(SHORTEST, session.latest, ...all.flatMap(([, pieces]) => pieces.map((piece) => piece.end)));
  if (all.length) get("lanes").replaceChildren(...all.map(([person, pieces]) => lane(person, pieces, end)));
  const marks = [0, 1, 2, 3, 4].map((i) => {
    const mark = element("span", "", seconds((i * end) / 4));
    mark.style.left = `${25 * i - (i === 4 ? 2 : 0)}%`;
    return mark;
  });
  get("scale").replaceChildren(...marks);
  const told = all.flatMap(([, pieces]) => pieces.filter((piece) => !piece.open).map(sentence));
  if (get("list").childElementCount !== told.length) get("list").replaceChildren(...told.map((text) => element("li", "", text)));
}

function sentence({ person, start, end, name, probability }) {
  return `person ${person}, ${seconds(start)} to ${seconds(end)}: ${readable(name)} (${percent(probability)})`;
}

function lane(person, pieces, end) {
  const made = element("div", "lane");
  made.append(element("b", "", `Person ${person}`));
  for (const piece of pieces) {
    const one = element("div", "piece", readable(piece.name));
    one.style.left = `${(100 * piece.start) / end}%`;
    one.style.width = `${(100 * (piece.end - piece.start)) / end}%`;
    one.title = sentence({ ...piece, person });
    one.classList.toggle("unknown", piece.label === null);
    one.classList.toggle("open", Boolean(piece.open));
    if (piece.label !== null) one.style.background = colour(piece.label);
    made.append(one);
  }
  return made;
}

// ------------------------------------------------------------------ how it begins

function allow(yes) {
  for (const one of ["camera", "camera-again", "file"]) get(one).disabled = !yes;
}

function begin(live) {
  says("");
  allow(false);
  stage.classList.add("playing");
  get("stop").hidden = false;
  get("main").hidden = true;
  get("lanes").replaceChildren();
  get("list").replaceChildren();
  get("again").hidden = true;
  get("people").replaceChildren(element("p", "name muted", "looking …"));
  session?.end();
  allow(false);
  session = new Session(live);
}

function play(file) {
  if (session && !session.over) session.end();
  video.srcObject = null;
  video.src = URL.createObjectURL(file);
  video.onerror = () => {
    session?.end();
    stage.classList.remove("playing");
    says(`This browser cannot play ${file.name}: try an MP4 (H.264) or WebM file.`);
  };
  video.onloadeddata = () => begin(false);
}

async function film() {
  if (!navigator.mediaDevices) {
    says("Browsers give the camera only to pages of this machine or over https.");
    return;
  }
  try {
    const wanted = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: RATE } };
    const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
    video.onerror = null;
    video.onloadeddata = () => begin(true);
    video.srcObject = stream;
  } catch (error) {
    says(`The camera cannot be used: ${error.message}`);
  }
}

get("camera").addEventListener("click", film);
get("camera-again").addEventListener("click", film);
get("stop").addEventListener("click", () => {
  if (session?.socket.readyState === WebSocket.OPEN && !session.asked) {
    session.asked = true;
    session.socket.send(JSON.stringify({ end: true }));
  } else {
    session?.end();
  }
});
get("file").addEventListener("change", (event) => {
  if (event.target.files[0]) play(event.target.files[0]);
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
  if (file && !get("file").disabled) play(file);
});
introduce().catch(() => says("The server does not answer."));
