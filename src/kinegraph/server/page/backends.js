// Where poses are estimated and actions recognized: in a worker of this page, or on the server.
// Both answer the same messages: the skeleton, a result for each picture, the end, or an error.

const JPEG_QUALITY = 0.85;

/**
 * @typedef {object} Backend
 * @property {number} pending pictures that are sent and not answered
 * @property {(time: number, canvas: HTMLCanvasElement) => Promise<void>} send sends a picture
 * @property {() => void} end asks for the last segments
 * @property {() => void} close
 */

/**
 * @typedef {object} Handlers
 * @property {(message: any) => void} onMessage
 * @property {() => void} onClose the backend closed without being asked
 */

/** @typedef {{worker: Worker, loaded: Promise<{threads: number}>}} LoadedWorker */

/** @type {LoadedWorker | null} */
let shared = null;

/**
 * Return the worker of this page, which loads its networks once.
 * @param {string | null} token
 * @returns {LoadedWorker}
 */
export function loadWorker(token) {
  if (shared) return shared;
  const worker = new Worker(new URL("recognition/worker.js", import.meta.url), { type: "module" });
  /** @type {Record<string, string>} */
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  worker.postMessage({ load: new URL("model/", document.baseURI).href, headers });
  const loaded = new Promise((resolve, reject) => {
    worker.onmessage = ({ data }) => (data.loaded ? resolve(data) : reject(new Error(data.error)));
    worker.onerror = (event) => reject(new Error(event.message || "a file of this page is missing"));
  });
  shared = { worker, loaded };
  loaded.catch(() => {
    worker.terminate();
    shared = null;
  });
  return shared;
}

/** @implements {Backend} */
export class BrowserBackend {
  /**
   * @param {string | null} token
   * @param {Handlers} handlers
   */
  constructor(token, { onMessage }) {
    this.pending = 0;
    this.isOpen = true;
    const { worker, loaded } = loadWorker(token);
    this.worker = worker;
    loaded.then(
      () => {
        if (!this.isOpen) return;
        worker.onmessage = ({ data }) => {
          if (data.picture || data.error) this.pending = Math.max(this.pending - 1, 0);
          if (this.isOpen) onMessage(data);
          else data.picture?.close();
        };
        worker.postMessage({ start: true });
      },
      (error) => this.isOpen && onMessage({ error: `The page cannot load the model: ${error.message}`, fatal: true }),
    );
  }

  /**
   * @param {number} time
   * @param {HTMLCanvasElement} canvas
   */
  async send(time, canvas) {
    this.pending += 1;
    const picture = await createImageBitmap(canvas);
    this.worker.postMessage({ picture, time }, [picture]);
  }

  end() {
    this.worker.postMessage({ end: true });
  }

  close() {
    this.isOpen = false;
  }
}

/** @implements {Backend} */
export class ServerBackend {
  /**
   * @param {string | null} token
   * @param {Handlers} handlers
   * @param {string} model id of a taught model, "" for the server's own
   */
  constructor(token, { onMessage, onClose }, model) {
    /** @type {Map<number, ImageBitmap>} pictures by time */
    this.pictures = new Map();
    this.isOpen = true;
    this.socket = openSocket(token, model);
    this.socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.error) this.pictures.clear();
      if ("time" in message) message.picture = this.takePicture(message.time);
      if (this.isOpen) onMessage(message);
    };
    this.socket.onclose = () => this.isOpen && onClose();
  }

  get pending() {
    return this.pictures.size;
  }

  /**
   * Return the picture of an answer, and drop those before it, which the server skipped.
   * @param {number} time
   */
  takePicture(time) {
    const picture = this.pictures.get(time);
    for (const earlier of [...this.pictures.keys()]) {
      if (earlier < time) this.pictures.get(earlier)?.close();
      if (earlier <= time) this.pictures.delete(earlier);
    }
    return picture;
  }

  /**
   * @param {number} time
   * @param {HTMLCanvasElement} canvas
   */
  async send(time, canvas) {
    this.pictures.set(time, await createImageBitmap(canvas));
    /** @type {Blob | null} */
    const jpeg = await new Promise((done) => canvas.toBlob(done, "image/jpeg", JPEG_QUALITY));
    if (!jpeg || this.socket.readyState !== WebSocket.OPEN) return;
    const head = new DataView(new ArrayBuffer(8));
    head.setFloat64(0, time, true);
    this.socket.send(new Blob([head, jpeg]));
  }

  end() {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ end: true }));
  }

  close() {
    this.isOpen = false;
    this.socket.close();
  }
}

/**
 * @param {string | null} token
 * @param {string} model
 */
function openSocket(token, model) {
  const address = new URL("v1/video", document.baseURI);
  if (model) address.searchParams.set("model", model);
  address.protocol = location.protocol.replace("http", "ws");
  const protocols = ["kinegraph"];
  if (token) {
    const text = btoa(String.fromCharCode(...new TextEncoder().encode(token)));
    protocols.push("token." + text.replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, ""));
  }
  return new WebSocket(address, protocols);
}
