// A client in plain JavaScript, written from docs/serving.md alone, with binary frames.
//
// Usage: node page_client.mjs HOST:PORT TOKEN. Standard input is a JSON object: person -> frames.
// Prints the last answer of each person and the number of connections, as JSON.

import { readFileSync } from "node:fs";

const [host, token] = process.argv.slice(2);
const people = JSON.parse(readFileSync(0, "utf8"));
const names = Object.keys(people);
const again = [1001, 1012, 1013];

const headers = { authorization: `Bearer ${token}` };
const model = await (await fetch(`http://${host}/v1/model`, { headers })).json();
const size = model.layout.joints.length * model.coordinates;

/** Return a binary message with a frame of each person. */
function pack(t) {
  const present = names.filter((name) => t < people[name].length);
  const view = new DataView(new ArrayBuffer(8 + present.length * (12 + 4 * size)));
  [..."KGF1"].forEach((letter, i) => view.setUint8(i, letter.charCodeAt(0)));
  view.setUint8(4, 0);
  view.setUint8(5, 1);
  view.setUint16(6, present.length, true);
  let at = 8;
  for (const name of present) {
    view.setUint32(at, names.indexOf(name), true);
    view.setFloat64(at + 4, t / 30, true);
    at += 12;
    for (const value of people[name][t].flat()) {
      view.setFloat32(at, value ?? NaN, true);
      at += 4;
    }
  }
  return view.buffer;
}

/** Stream all persons over one connection; return their last answers, or null to try again. */
function stream() {
  const bytes = Buffer.from(token).toString("base64url");
  const address = `ws://${host}/v1/stream?logits=true&coalesce=true`;
  const socket = new WebSocket(address, ["kinegraph", `token.${bytes}`]);
  const last = {};
  let timer;
  return new Promise((resolve, reject) => {
    socket.onopen = () => {
      let t = 0;
      timer = setInterval(() => {
        if (t < Math.max(...names.map((name) => people[name].length))) {
          socket.send(pack(t++));
          return;
        }
        clearInterval(timer);
        socket.send(JSON.stringify(names.map((_, person) => ({ person, end: true }))));
      }, 1000 / 30);
    };
    socket.onmessage = ({ data }) => {
      for (const answer of JSON.parse(data)) {
        if ("error" in answer) console.error(answer);
        if (answer.end) last[names[answer.person]] = answer;
      }
      if (Object.keys(last).length === names.length) {
        resolve(last);
        socket.close();
      }
    };
    socket.onclose = ({ code }) => {
      clearInterval(timer);
      if (again.includes(code)) resolve(null);
      else reject(new Error(`closed with code ${code}`));
    };
  });
}

let last = null;
let connections = 0;
while (last === null) {
  if (connections > 0) await new Promise((resolve) => setTimeout(resolve, 500));
  connections += 1;
  last = await stream();
}
console.log(JSON.stringify({ last, connections }));
