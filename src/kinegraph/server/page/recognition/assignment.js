// Assignment: pairs of rows and columns with the smallest sum of costs.

/**
 * Return the pairs [row, column] of minimal total cost; as many as the shorter side has.
 *
 * Hungarian method with potentials (Kuhn 1955), O(n^2 m).
 * @param {number[][]} cost finite numbers, all rows of one length
 * @returns {[number, number][]} sorted by row
 */
export function assign(cost) {
  const rows = cost.length, columns = rows ? cost[0].length : 0;
  if (!rows || !columns) return [];
  if (rows > columns) {
    const flipped = cost[0].map((_, column) => cost.map((row) => row[column]));
    return assign(flipped)
      .map(([column, row]) => /** @type {[number, number]} */ ([row, column]))
      .sort((a, b) => a[0] - b[0]);
  }
  const rowPotential = new Float64Array(rows + 1), columnPotential = new Float64Array(columns + 1);
  const rowOf = new Int32Array(columns + 1); // 0: the column is free; rows and columns from 1
  for (let row = 1; row <= rows; row++) {
    const shortest = new Float64Array(columns + 1).fill(Infinity);
    const previous = new Int32Array(columns + 1), visited = new Uint8Array(columns + 1);
    let column = 0;
    rowOf[0] = row;
    do {
      visited[column] = 1;
      const current = rowOf[column];
      let step = Infinity, next = 0;
      for (let j = 1; j <= columns; j++) {
        if (visited[j]) continue;
        const reduced = cost[current - 1][j - 1] - rowPotential[current] - columnPotential[j];
        if (reduced < shortest[j]) {
          shortest[j] = reduced;
          previous[j] = column;
        }
        if (shortest[j] < step) {
          step = shortest[j];
          next = j;
        }
      }
      for (let j = 0; j <= columns; j++) {
        if (visited[j]) {
          rowPotential[rowOf[j]] += step;
          columnPotential[j] -= step;
        } else {
          shortest[j] -= step;
        }
      }
      column = next;
    } while (rowOf[column]);
    while (column) {
      rowOf[column] = rowOf[previous[column]];
      column = previous[column];
    }
  }
  /** @type {[number, number][]} */
  const pairs = [];
  for (let j = 1; j <= columns; j++) if (rowOf[j]) pairs.push([rowOf[j] - 1, j - 1]);
  return pairs.sort((a, b) => a[0] - b[0]);
}
