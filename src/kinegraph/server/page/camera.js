// Cameras: their choice, their permission, and sentences about what went wrong.

const WANTED = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 30 } };

/**
 * Open a camera.
 * @param {string} deviceId empty for the browser's choice
 * @returns {Promise<MediaStream>}
 * @throws {Error} with a sentence on what to do
 */
export async function openCamera(deviceId) {
  if (!navigator.mediaDevices) {
    throw new Error("Browsers allow the camera only on localhost or over HTTPS: open this page at such an address, or choose a video.");
  }
  const video = deviceId ? { ...WANTED, deviceId: { exact: deviceId } } : WANTED;
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: false });
  } catch (error) {
    throw new Error(explain(/** @type {DOMException} */ (error)));
  }
}

/** @param {DOMException} error */
function explain({ name, message }) {
  switch (name) {
    case "NotAllowedError":
      return "The camera is blocked for this page. To allow it, click the symbol left of the address, set Camera to “Allow”, and press “Use the camera” again.";
    case "NotFoundError":
    case "OverconstrainedError":
      return "No camera was found. Connect one and try again, or choose a video.";
    case "NotReadableError":
    case "AbortError":
      return "The camera cannot be read: another program may use it. Close that program and try again.";
    default:
      return `The camera is not available: ${message}`;
  }
}

/**
 * Return the cameras; browsers give their names once one of them was allowed.
 * @returns {Promise<{id: string, name: string}[]>}
 */
export async function listCameras() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter(({ kind, deviceId }) => kind === "videoinput" && deviceId)
    .map(({ deviceId, label }, i) => ({ id: deviceId, name: label || `Camera ${i + 1}` }));
}

/**
 * Return whether a camera shows its user, who expects a mirror.
 * @param {MediaStream} stream
 */
export function showsUser(stream) {
  return stream.getVideoTracks()[0]?.getSettings().facingMode !== "environment";
}
