// One video or camera: its pictures are sent to a backend, its answers become results.

import { Results } from "./results.js";

/** @import { Backend, Handlers } from "./backends.js" */
/** @import { PersonResult } from "./results.js" */
/** @import { Skeleton } from "./display.js" */

const MAX_IMAGE_SIDE = 640; // pixels of the longer side of the pictures that are sent
const MAX_PENDING = 2; // pictures that are sent and not answered
const MAX_FPS = 30;
const MIN_FILE_FPS = 25; // pictures per second of a file; it plays slower if answers take longer
const MIN_PLAYBACK_RATE = 0.0625; // browsers do not play slower
const MAX_FILE_GAP_S = 0.2; // of a file between two pictures; it waits if answers take longer
const STALL_S = 5; // time without an answer after which a notice is shown
const RATE_WINDOW_S = 2; // time over which the picture rate is measured
const RECONNECT_DELAYS_S = [1, 2, 4, 8, 8];

/**
 * Functions that a session calls.
 * @typedef {object} SessionEvents
 * @property {() => void} onStart the backend is ready
 * @property {(picture: ImageBitmap | undefined, persons: PersonResult[]) => void} onResult
 * @property {(text: string) => void} onNotice empty when the trouble is over
 * @property {() => void} onEnd
 */

export class Session {
  /**
   * @param {HTMLVideoElement} video which is loaded and paused
   * @param {boolean} isLive whether it is a camera
   * @param {(handlers: Handlers) => Backend} open opens the backend
   * @param {SessionEvents} events
   */
  constructor(video, isLive, open, events) {
    this.video = video;
    this.isLive = isLive;
    this.open = open;
    this.events = events;
    this.results = new Results();
    /** @type {Skeleton | null} */
    this.skeleton = null;
    this.isSending = this.isStalled = this.endRequested = this.hasEnded = false;
    this.startTime = performance.now();
    this.sentTime = -1;
    this.sentAt = 0;
    /** @type {number[]} times of answers, in milliseconds */
    this.answers = [];
    this.lastAnswer = performance.now();
    this.answerSeconds = 0; // between picture and answer, averaged
    this.attempts = 0;
    this.canvas = document.createElement("canvas");
    this.backend = this.connect();
    this.tick();
  }

  /** Time of the video in seconds. */
  get time() {
    return this.isLive ? (performance.now() - this.startTime) / 1000 : this.video.currentTime;
  }

  /** Pictures per second, over the last seconds. */
  get pictureRate() {
    const since = performance.now() - 1000 * RATE_WINDOW_S;
    this.answers = this.answers.filter((time) => time > since);
    return this.answers.length / RATE_WINDOW_S;
  }

  connect() {
    return this.open({
      onMessage: (message) => this.onMessage(message),
      onClose: () => this.reconnect(),
    });
  }

  tick() {
    if (this.hasEnded) return;
    const isDue = this.time - this.sentTime >= 0.9 / MAX_FPS, { pending } = this.backend;
    if (this.skeleton && !this.endRequested) {
      if (!this.isLive && this.video.ended) {
        if (!this.isSending && !pending) this.requestEnd();
      } else if (isDue && !this.isSending && pending < MAX_PENDING) {
        this.send();
      }
      this.checkStall();
      if (!this.isLive && this.backend.pending && this.time - this.sentTime > MAX_FILE_GAP_S) this.video.pause();
    }
    setTimeout(() => this.tick(), 8);
  }

  async send() {
    const { videoWidth: width, videoHeight: height } = this.video;
    if (!width) return;
    this.isSending = true;
    const time = this.time, share = Math.min(1, MAX_IMAGE_SIDE / Math.max(width, height));
    this.canvas.width = Math.round(width * share);
    this.canvas.height = Math.round(height * share);
    this.canvas.getContext("2d")?.drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    this.sentTime = time;
    this.sentAt = performance.now();
    await this.backend.send(time, this.canvas);
    this.isSending = false;
  }

  /** @param {any} message of the backend */
  onMessage(message) {
    if (message.error) {
      this.events.onNotice(message.error);
      if (message.fatal || !this.skeleton) this.end();
    } else if (message.bones) {
      if (!this.skeleton) this.startTime = performance.now();
      this.skeleton = message;
      this.lastAnswer = performance.now();
      if (this.isLive) this.play(); // a file is played once its first picture is answered
      this.events.onStart();
    } else if (message.end) {
      this.results.finish({ ...message, segments: this.renumber(message.segments) });
      this.end();
    } else {
      this.showResult(message);
    }
  }

  /** @param {any} message */
  showResult(message) {
    /** @type {PersonResult[]} */
    const persons = this.renumber(message.persons);
    this.results.add({ time: message.time, persons, segments: this.renumber(message.segments) });
    const now = performance.now();
    this.answers.push(now);
    this.adaptPlayback((now - this.lastAnswer) / 1000);
    this.lastAnswer = now;
    this.attempts = 0;
    if (!this.isLive && this.video.paused && !this.video.ended && !this.endRequested) this.play();
    this.events.onResult(message.picture, persons);
  }

  play() {
    this.video.play().catch((error) => {
      if (error.name !== "AbortError") this.events.onNotice(`The video cannot be played: ${error.message}`);
    });
  }

  /**
   * Add the number of persons of earlier connections to the person numbers.
   * @param {any[]} entries persons or segments
   * @returns {any[]}
   */
  renumber(entries) {
    return entries.map((entry) => ({ ...entry, person: entry.person + this.results.offset }));
  }

  /**
   * Play a file so slowly that enough of its pictures are answered.
   * @param {number} seconds between two answers
   */
  adaptPlayback(seconds) {
    if (this.isLive) return;
    this.answerSeconds = this.answerSeconds ? 0.8 * this.answerSeconds + 0.2 * seconds : seconds;
    const rate = 1 / (MIN_FILE_FPS * this.answerSeconds);
    this.video.playbackRate = Math.min(1, Math.max(rate, MIN_PLAYBACK_RATE));
  }

  checkStall() {
    const waiting = (performance.now() - Math.max(this.lastAnswer, this.sentAt)) / 1000;
    const isStalled = this.backend.pending > 0 && waiting > STALL_S;
    if (isStalled) this.events.onNotice(`No answer for ${Math.round(waiting)} s. Waiting …`);
    else if (this.isStalled) this.events.onNotice("");
    this.isStalled = isStalled;
  }

  /** Open the connection again after it was lost; later attempts wait longer. */
  reconnect() {
    if (this.hasEnded) return;
    this.backend.close();
    const delay = RECONNECT_DELAYS_S[this.attempts];
    this.skeleton = null;
    this.video.pause();
    if (delay === undefined) {
      this.events.onNotice("The connection to the server is lost. The results so far are kept.");
      this.end();
      return;
    }
    this.attempts += 1;
    this.events.onNotice(`The connection to the server is lost. Trying again in ${delay} s …`);
    setTimeout(() => {
      if (this.hasEnded) return;
      this.results.startConnection();
      this.isSending = false;
      this.backend = this.connect();
    }, 1000 * delay);
  }

  /** Ask for the last segments; the session ends with the answer. */
  requestEnd() {
    if (this.endRequested || !this.skeleton) {
      this.end();
      return;
    }
    this.endRequested = true;
    this.video.pause();
    this.backend.end();
  }

  end() {
    if (this.hasEnded) return;
    this.hasEnded = true;
    this.backend.close();
    this.video.pause();
    const { srcObject } = this.video;
    if (this.isLive && srcObject instanceof MediaStream) for (const track of srcObject.getTracks()) track.stop();
    this.events.onEnd();
  }
}
