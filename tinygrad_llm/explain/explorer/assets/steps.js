// Where in the training step we are. `position` counts the events that have happened; an event is
// the forward or the backward of one op, in the order in which they really ran.

const EVENTS = DATA.events;
const BACKWARD = 1;
for (const node of NODES) node.forwardAt = node.backwardAt = Infinity;
EVENTS.forEach(([kind, i], at) => {
  NODES[i][kind === BACKWARD ? "backwardAt" : "forwardAt"] = at;
});
let position = 0;

/** How many of the gradients sent to a node or leaf have arrived. */
function arrivedSoFar(target) {
  return target.arrived.filter(c => NODES[c.source].backwardAt < position).length;
}

const SIGNS = {
  future: "·", forward: "○", partial: "◐", complete: "●", walked: "✓", none: "–",
};

const MEANINGS = {
  future: "not computed yet", forward: "computed; no gradient has arrived",
  partial: "some of its gradients have arrived", complete: "all its gradients have arrived: backward is next",
  walked: "its backward has run", none: "needs no gradient",
};

/** State of one op: a key of SIGNS. */
function nodeState(i) {
  const node = NODES[i];
  if (node.forwardAt >= position) return "future";
  if (node.backwardAt === Infinity) return "none";
  if (node.backwardAt < position) return "walked";
  const arrived = arrivedSoFar(node);
  if (arrived === node.arrived.length) {
    return arrived || EVENTS[position]?.[1] === i ? "complete" : "forward";
  }
  return arrived ? "partial" : "forward";
}

/** State of a folded module, and the text next to its sign. */
function groupState(group) {
  let computed = 0, walked = 0, touched = 0, all = 0, total = 0;
  for (let i = group.first; i <= group.last; i++) {
    total++;
    computed += NODES[i].forwardAt < position;
    if (NODES[i].backwardAt === Infinity) continue;
    all++;
    walked += NODES[i].backwardAt < position;
    touched += arrivedSoFar(NODES[i]) > 0;
  }
  if (computed < total) return { state: "future", text: computed ? `${computed}/${total}` : "" };
  if (!all) return { state: "none", text: "" };
  if (walked === all) return { state: "walked", text: "" };
  return { state: touched ? "partial" : "forward", text: walked ? `${walked}/${all}` : "" };
}

/** "backward 12 of 28: blocks.1.gelu", as HTML. */
function eventText() {
  if (!position) return "nothing has run yet";
  const [kind, i] = EVENTS[position - 1];
  const name = kind === BACKWARD ? "backward" : "forward";
  const same = EVENTS.filter(event => event[0] === kind).length;
  const before = EVENTS.slice(0, position).filter(event => event[0] === kind).length;
  const at = kind === BACKWARD ? "gradient" : "forward";
  return `<b class="${at}">${name}</b> ${before} of ${same}: ${escapeText(nodePath(i))}`;
}

/** The position after one step that treats each visible row as one. */
function positionOver(direction, rowOfNode) {
  let at = position;
  const eventAt = p => EVENTS[direction > 0 ? p : p - 1];
  const first = eventAt(at);
  if (!first) return at;
  const here = e => e && e[0] === first[0] && rowOfNode[e[1]] === rowOfNode[first[1]];
  while (here(eventAt(at))) at += direction;
  return at;
}
