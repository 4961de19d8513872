// Lanes: the lines left of the rows, as in the graph of a version history. A result keeps a lane
// from the row that made it to the last row that uses it, so the residual stream is the straight
// line, and what hangs between two additions is a branch beside it.

/** Gives each row a lane and lists the edges between rows. */
function layOut(rows) {
  const rowOfNode = new Int32Array(NODES.length);
  rows.forEach((row, r) => {
    if (row.node !== undefined) rowOfNode[row.node] = r;
    else if (!row.open) rowOfNode.fill(r, row.group.first, row.group.last + 1);
  });
  const edges = edgesBetween(rowOfNode, rows.length);
  const lastUse = Int32Array.from(rows, (_, r) => r);
  for (const edge of edges) lastUse[edge.from] = Math.max(lastUse[edge.from], edge.to);
  const takenUntil = [];
  rows.forEach((row, r) => {
    if (row.open) return;
    let lane = 0;
    while ((takenUntil[lane] ?? -1) > r) lane++;
    takenUntil[lane] = lastUse[r];
    row.lane = lane;
  });
  return { rowOfNode, edges, lanes: takenUntil.length };
}

/** One edge per pair of rows, with the pairs of ops that it stands for. */
function edgesBetween(rowOfNode, nRows) {
  const byPair = new Map();
  NODES.forEach((node, i) => {
    for (const input of node.inputs) {
      if (input.source === null) continue;
      const from = rowOfNode[input.source], to = rowOfNode[i];
      if (from === to) continue;
      const key = from * nRows + to;
      if (!byPair.has(key)) byPair.set(key, { from, to, uses: [] });
      byPair.get(key).uses.push({ user: i, carries: input.sent !== null });
    }
  });
  return [...byPair.values()];
}

/** SVG path of an edge: down its maker's lane, then over to its user. */
function edgePath(edge, rows, height, laneX) {
  const x1 = laneX(rows[edge.from].lane), x2 = laneX(rows[edge.to].lane);
  const y1 = (edge.from + 0.5) * height, y2 = (edge.to + 0.5) * height;
  if (x1 === x2) return `M${x1} ${y1}V${y2}`;
  const bend = y2 - height, middle = y2 - height / 2;
  return `M${x1} ${y1}V${bend}C${x1} ${middle},${x2} ${middle},${x2} ${y2}`;
}
