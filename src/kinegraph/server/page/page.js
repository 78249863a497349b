// The page: chooses a video or a camera, and shows who does what in it.

import { BrowserBackend, loadWorker, ServerBackend } from "./backends.js";
import { listCameras, openCamera, showsUser } from "./camera.js";
import {
  byId, createElement, displayName, drawPicture, drawTimeline, formatTime, showMainAction, showNotice, showPersons,
} from "./display.js";
import { ClipRecorder, clipType, saveFile } from "./download.js";
import { Session } from "./session.js";
import { TeachPanel } from "./teach.js";

/** @import { PersonResult } from "./results.js" */

/** @typedef {{available: boolean, requirement: string | null}} Place where poses are estimated */

/**
 * What page.json states.
 * @typedef {object} PageInfo
 * @property {string} name of the model
 * @property {string[]} actions
 * @property {Place} browser
 * @property {Place} server
 * @property {boolean} offline whether the files are kept for use without a network
 */

const PLACES = {
  browser: "Poses are estimated in this browser: no image leaves it.",
  server: "Images are sent to this server and are not stored.",
};

const MIN_CAMERA_FPS = 5; // joints are not interpolated over longer gaps
const SLOW_AFTER_S = 4;

const stage = byId("stage"), picture = /** @type {HTMLCanvasElement} */ (byId("picture"));
const video = /** @type {HTMLVideoElement} */ (byId("video")), file = /** @type {HTMLInputElement} */ (byId("file"));
const cameras = /** @type {HTMLSelectElement} */ (byId("cameras")), place = /** @type {HTMLSelectElement} */ (byId("place"));
const mirror = /** @type {HTMLInputElement} */ (byId("mirror")), record = /** @type {HTMLInputElement} */ (byId("record"));
const token = new URLSearchParams(location.hash.slice(1)).get("token");

/** @type {Session | null} */
let session = null;
/** @type {ClipRecorder | null} */
let recorder = null;
let sourceName = "camera";
let taughtModel = ""; // id, "" for the model of the page
const teachPanel = new TeachPanel(token, useTaughtModel);
teachPanel.layout = () => session?.skeleton?.layout ?? "";

// ------------------------------------------------------------------ model

async function loadPage() {
  /** @type {Record<string, string>} */
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  const response = await fetch("page.json", { headers });
  if (!response.ok) {
    const { error } = await response.json();
    byId("about").textContent = "";
    showNotice(response.status === 401 ? "This server requires a token. Add #token=… to the address of this page." : error);
    return;
  }
  const info = /** @type {PageInfo} */ (await response.json());
  showActions(info.name, info.actions);
  byId("teach").hidden = info.offline || !info.server.available;
  showPlaces(info);
  if (info.offline && "serviceWorker" in navigator) await keepOffline();
  if (place.value === "browser") await prepareBrowser();
}

/**
 * @param {string} model
 * @param {string[]} actions
 */
function showActions(model, actions) {
  byId("about").textContent = `${model}: ${actions.length} actions`;
  byId("actions").replaceChildren(...actions.map((name) => createElement("li", "", displayName(name))));
}

/**
 * Use a taught model for the next videos; it runs on the server.
 * @param {string} id
 * @param {string[]} actions
 */
function useTaughtModel(id, actions) {
  taughtModel = id;
  showActions("taught model", actions);
  place.value = "server";
  byId("place-choice").hidden = true;
  showPlace();
}

/** @param {PageInfo} info */
function showPlaces({ browser, server }) {
  const open = /** @type {("browser" | "server")[]} */ (["browser", "server"]).filter((name) => ({ browser, server })[name].available);
  for (const option of [...place.options]) option.hidden = option.disabled = !open.includes(/** @type {any} */ (option.value));
  place.value = open[0] ?? "";
  byId("place-choice").hidden = open.length < 2;
  showPlace();
  if (!open.length) {
    showNotice(`This page cannot process videos. ${browser.requirement ?? ""} ${server.requirement ?? ""}`);
  } else if (!browser.available && browser.requirement) {
    byId("privacy").append(createElement("span", "", ` ${browser.requirement}`));
  }
  enableInputs(open.length > 0);
}

function showPlace() {
  byId("privacy").textContent = PLACES[/** @type {"browser" | "server"} */ (place.value)] ?? "";
}

async function prepareBrowser() {
  byId("state").textContent = "Loading the model into the browser …";
  try {
    const { threads } = await loadWorker(token).loaded;
    if (!session) byId("state").textContent = `Ready (${threads} ${threads === 1 ? "thread" : "threads"})`;
  } catch (error) {
    byId("state").textContent = "";
    showNotice(`The page cannot load the model: ${/** @type {Error} */ (error).message}`);
  }
}

/** Keep the files of this page; the service worker also allows threads, by its headers. */
async function keepOffline() {
  const { serviceWorker } = navigator;
  try {
    await serviceWorker.register("service_worker.js");
    await serviceWorker.ready;
  } catch {
    return; // such as in a private window: the page works while there is a network
  }
  if (serviceWorker.controller && crossOriginIsolated) return;
  if (sessionStorage.getItem("reloaded")) return;
  sessionStorage.setItem("reloaded", "yes");
  location.reload();
}

// ------------------------------------------------------------------ session

/** @param {boolean} isLive */
function startSession(isLive) {
  session?.end();
  showNotice("");
  enableInputs(false);
  stage.classList.add("playing");
  byId("stop").hidden = false;
  for (const id of ["main", "restart", "downloads"]) byId(id).hidden = true;
  for (const id of ["rows", "list"]) byId(id).replaceChildren();
  byId("mirror-choice").hidden = !isLive;
  byId("people").replaceChildren(createElement("p", "name muted", "Waiting …"));
  byId("state").textContent = "Loading the pose estimator …";
  recorder = null;
  const started = new Session(video, isLive, (handlers) => {
    return place.value === "browser" ? new BrowserBackend(token, handlers) : new ServerBackend(token, handlers, taughtModel);
  }, {
    onStart: () => {
      showNotice("");
      if (record.checked && !recorder) recorder = new ClipRecorder(picture);
    },
    onResult: (bitmap, persons) => showResult(started, bitmap, persons),
    onNotice: showNotice,
    onEnd: () => showEnd(started),
  });
  session = started;
}

/**
 * @param {Session} shown
 * @param {ImageBitmap | undefined} bitmap
 * @param {PersonResult[]} persons
 */
function showResult(shown, bitmap, persons) {
  const byPerson = shown.results.persons.length > 1 || persons.length > 1;
  const mirrored = shown.isLive && mirror.checked;
  teachPanel.add(shown.results.lastTime, persons);
  if (bitmap && shown.skeleton) drawPicture(picture, bitmap, persons, shown.skeleton, { mirrored, byPerson });
  picture.setAttribute("aria-label", `${persons.length} persons at ${formatTime(shown.sentTime)}`);
  showPersons(persons, byPerson);
  drawTimeline(shown.results, shown.sentTime);
  const speed = video.playbackRate < 0.95 && !shown.isLive ? `, played at ${video.playbackRate.toFixed(2)}x` : "";
  const isSlow = shown.isLive && shown.sentTime > SLOW_AFTER_S && shown.pictureRate < MIN_CAMERA_FPS;
  const slow = isSlow ? ` · too few to name actions (at least ${MIN_CAMERA_FPS})` : "";
  const single = shown.skeleton?.people === 1 ? " · one person at a time" : "";
  byId("state").textContent = `${formatTime(shown.sentTime)} · ${Math.round(shown.pictureRate)} images/s${speed}${slow}${single}`;
}

/** @param {Session} ended */
function showEnd({ results }) {
  const shown = results.hasPictures;
  byId("stop").hidden = true;
  byId("state").textContent = shown ? "Finished" : "";
  drawTimeline(results, results.lastTime);
  showMainAction(results);
  stage.classList.toggle("playing", shown);
  byId("restart").hidden = byId("downloads").hidden = !shown;
  byId("save-clip").hidden = !recorder;
  enableInputs(true);
}

// ------------------------------------------------------------------ inputs

/** @param {boolean} enabled */
function enableInputs(enabled) {
  for (const id of ["camera", "restart-camera", "restart-file", "file", "cameras", "place", "record"]) {
    /** @type {HTMLButtonElement | HTMLInputElement | HTMLSelectElement} */ (byId(id)).disabled = !enabled;
  }
  for (const label of document.querySelectorAll(".button")) label.classList.toggle("off", !enabled);
}

/** @param {File} chosen */
function playFile(chosen) {
  session?.end();
  sourceName = chosen.name.replace(/\.[^.]*$/, "");
  video.srcObject = null;
  video.src = URL.createObjectURL(chosen);
  video.onerror = () => {
    session?.end();
    stage.classList.remove("playing");
    showNotice(`This browser cannot play ${chosen.name}. Try an MP4 (H.264) or WebM file.`);
  };
  video.onloadeddata = () => startSession(false);
}

async function startCamera() {
  session?.end();
  try {
    const stream = await openCamera(cameras.value);
    const [track] = stream.getVideoTracks();
    track.onended = () => {
      showNotice("The camera stopped: it was disconnected, or its permission was taken back.");
      session?.requestEnd();
    };
    track.onmute = () => showNotice("The camera gives no image. Waiting …");
    track.onunmute = () => showNotice("");
    sourceName = "camera";
    mirror.checked = showsUser(stream);
    await showCameras(track.getSettings().deviceId ?? "");
    video.onerror = null;
    video.onloadeddata = () => startSession(true);
    video.srcObject = stream;
  } catch (error) {
    showNotice(/** @type {Error} */ (error).message);
  }
}

/** @param {string} chosen id of the camera in use */
async function showCameras(chosen) {
  const found = await listCameras();
  cameras.replaceChildren(...found.map(({ id, name }) => new Option(name, id, false, id === chosen)));
  byId("camera-choice").hidden = found.length < 2;
}

byId("camera").addEventListener("click", startCamera);
byId("restart-camera").addEventListener("click", startCamera);
byId("restart-file").addEventListener("click", () => file.click());
byId("stop").addEventListener("click", () => session?.requestEnd());
place.addEventListener("change", () => {
  showPlace();
  if (place.value === "browser") prepareBrowser();
});
file.addEventListener("change", () => {
  if (file.files?.[0]) playFile(file.files[0]);
  file.value = "";
});
byId("save-json").addEventListener("click", () => {
  const text = JSON.stringify(session?.results.toJson(), null, 1);
  saveFile(`${sourceName}.json`, new Blob([text], { type: "application/json" }));
});
byId("save-csv").addEventListener("click", () => {
  saveFile(`${sourceName}.csv`, new Blob([session?.results.toCsv() ?? ""], { type: "text/csv" }));
});
byId("save-clip").addEventListener("click", async () => {
  if (recorder) saveFile(`${sourceName}-annotated.${recorder.suffix}`, await recorder.stop());
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
  const dropped = event.dataTransfer?.files[0];
  if (dropped && !file.disabled) playFile(dropped);
});
byId("record-choice").hidden = !clipType();
loadPage().catch(() => showNotice("The server does not respond."));
