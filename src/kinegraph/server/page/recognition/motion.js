// Motion of a body over a window of frames.
// The same rules as kinegraph/video/motion.py.

/**
 * Return the middle of numbers, without those that are NaN; NaN if there are none.
 * @param {Iterable<number>} values
 */
export function median(values) {
  const sorted = [...values].filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  const half = sorted.length >> 1;
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

/**
 * Return the largest standard deviation of a joint's position without noise, in diagonals of the
 * body; 0 if no joint is visible often enough.
 * @param {Float64Array[]} frames joints of each frame: 2 V, NaN where absent
 * @param {number} minPresence share of the frames in which a joint must be visible
 */
export function measureMotion(frames, minPresence) {
  const isSeen = (/** @type {Float64Array} */ joints, /** @type {number} */ v) => !Number.isNaN(joints[2 * v]);
  const all = [...Array((frames[0]?.length ?? 0) / 2).keys()];
  const shown = frames.filter((joints) => all.some((v) => isSeen(joints, v))).length;
  const least = Math.max(1, minPresence * shown);
  const often = all.filter((v) => frames.filter((joints) => isSeen(joints, v)).length >= least);
  const used = frames.filter((joints) => often.some((v) => isSeen(joints, v)));
  if (!used.length) return 0;
  const extents = used.map((joints) => {
    const [width, height] = [0, 1].map((axis) => {
      const own = often.map((v) => joints[2 * v + axis]).filter((value) => !Number.isNaN(value));
      return Math.max(...own) - Math.min(...own);
    });
    return Math.hypot(width, height);
  });
  const squares = often.map(() => 0);
  for (const axis of [0, 1]) {
    const rest = often.map((v) => median(used.map((joints) => joints[2 * v + axis])));
    const offsets = used.map((joints) => {
      const moved = often.map((v, i) => joints[2 * v + axis] - rest[i]), middle = median(moved);
      return moved.map((value) => value - middle); // of the whole body, such as by a moving camera
    });
    often.forEach((_, i) => {
      const own = offsets.map((row) => row[i]).filter((value) => !Number.isNaN(value));
      const mean = own.reduce((sum, value) => sum + value, 0) / own.length;
      squares[i] += own.reduce((sum, value) => sum + (value - mean) ** 2, 0) / own.length;
      const second = offsets
        .slice(2)
        .map((row, t) => (row[i] - 2 * offsets[t + 1][i] + offsets[t][i]) ** 2)
        .filter((value) => !Number.isNaN(value));
      // noise that is independent from frame to frame
      squares[i] -= second.reduce((sum, value) => sum + value, 0) / Math.max(1, second.length) / 6;
    });
  }
  return Math.sqrt(Math.max(0, ...squares)) / Math.max(median(extents), 1e-9);
}
