// Downloads: results as files, and the annotated video as a clip.

const CLIP_TYPES = ["video/mp4;codecs=avc1.42E01F", "video/webm;codecs=vp9", "video/webm"];
const CLIP_FPS = 30;

/**
 * Offer a file to the user.
 * @param {string} name
 * @param {Blob} content
 */
export function saveFile(name, content) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

/** Return the type of clips that this browser can record, empty if none. */
export function clipType() {
  const canRecord = "MediaRecorder" in globalThis && "captureStream" in HTMLCanvasElement.prototype;
  return canRecord ? (CLIP_TYPES.find((type) => MediaRecorder.isTypeSupported(type)) ?? "") : "";
}

/** Records what is drawn on a canvas. */
export class ClipRecorder {
  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    /** @type {Blob[]} */
    this.parts = [];
    this.type = clipType();
    this.recorder = new MediaRecorder(canvas.captureStream(CLIP_FPS), { mimeType: this.type });
    this.recorder.ondataavailable = ({ data }) => this.parts.push(data);
    this.recorder.start(1000);
  }

  /** Ending of the name of the clip's file. */
  get suffix() {
    return this.type.startsWith("video/mp4") ? "mp4" : "webm";
  }

  /**
   * End the recording and return the clip.
   * @returns {Promise<Blob>}
   */
  async stop() {
    if (this.recorder.state !== "inactive") {
      const stopped = new Promise((resolve) => this.recorder.addEventListener("stop", resolve));
      this.recorder.stop();
      await stopped;
    }
    return new Blob(this.parts, { type: this.type });
  }
}
