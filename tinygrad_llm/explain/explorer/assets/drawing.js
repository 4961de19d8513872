// The drawing of the model: a box for each module or op, left to right, and lines where a result
// goes; residual connections are the arcs above. It is drawn from the recorded graph.

const drawing = document.getElementById("drawing");
const MOST_BOXES = 300;
const BOX = { top: 22, height: 34, gap: 10, letter: 6.3, pad: 10 };

/** One or two lines for a box. */
function boxLines(child) {
  const node = child.group ? null : NODES[child.node];
  const name = child.group ? DATA.plain[child.group.label] || child.group.label
    : node.prefix || (node.name === "add" ? "+" : DATA.ops[node.name].plain);
  const words = name.replace(/_/g, " ").split(" ");
  return words.length > 1 ? [words.slice(0, -1).join(" "), words.at(-1)] : words;
}

const boxRange = child => child.group ? [child.group.first, child.group.last] : [child.node, child.node];

/** Places the boxes of one level; returns them and where the next begins. */
function placeBoxes(children, left, deep) {
  let x = left;
  const boxes = children.map(child => {
    const box = { child, x, lines: boxLines(child), inner: [] };
    const [first, last] = boxRange(child);
    Object.assign(box, { first, last });
    if (deep && child.group) {
      [box.inner, x] = placeBoxes(child.group.children, x + BOX.gap + 4, false);
      const words = box.lines.join(" ").length * BOX.letter;
      box.width = Math.max(x - box.x, words + BOX.pad);
    } else {
      const longest = Math.max(...box.lines.map(line => [...line].length));
      box.width = Math.max(18, longest * BOX.letter + BOX.pad);
    }
    x = box.x + box.width + BOX.gap;
    return box;
  });
  return [boxes, x];
}

/**
 * Straight lines between neighbours, arcs over what lies between. `entry` is where lines from
 * outside come in, or null.
 */
function connections(boxes, entry) {
  const lines = [];
  const middle = BOX.top + BOX.height / 2;
  boxes.forEach((box, k) => {
    const seen = new Set();
    for (let i = box.first; i <= box.last; i++) {
      for (const { source } of NODES[i].inputs) {
        if (source === null || source >= box.first) continue;
        const j = boxes.findIndex(b => source >= b.first && source <= b.last);
        if (seen.has(j) || (j < 0 && entry === null)) continue;
        seen.add(j);
        const x1 = j < 0 ? entry : boxes[j].x + boxes[j].width, x2 = box.x;
        const state = nodeState(box.first) === "future" ? "" : " passed";
        lines.push(j === k - 1 || (j < 0 && k === 0) ? `<path class="line${state}" d="M${x1} ${middle}H${x2}"/>`
          : arc(j < 0 ? entry + 3 : x1 - boxes[j].width / 2, x2 + box.width / 2, j < 0, state));
      }
    }
  });
  return lines.join("");
}

/** Up, over, and down into the box. */
function arc(x1, x2, fromEntry, state) {
  const high = BOX.top - 8, begin = fromEntry ? BOX.top + BOX.height / 2 : BOX.top;
  return `<path class="line${state}" d="M${x1} ${begin}V${high + 4}q0 -4 4 -4H${x2 - 4}q4 0 4 4V${BOX.top}"/>`;
}

function boxSvg(box, current) {
  const { child } = box, kind = child.group ? "group" : "op", id = child.group ? child.group.id : child.node;
  const state = (child.group ? groupState(child.group) : { state: nodeState(child.node) }).state;
  const here = current >= box.first && current <= box.last;
  const chosen = selected.kind === kind && selected.id === id;
  const open = box.inner.length > 0;
  const top = open ? 5 : BOX.top, height = open ? BOX.top + BOX.height + 1 : BOX.height;
  const path = child.group ? child.group.path : nodePath(child.node);
  const x = box.x + box.width / 2, first = BOX.top + (box.lines.length > 1 ? 14 : 21);
  const words = open
    ? `<text x="${x}" y="${top + height + 12}">${escapeText(box.lines.join(" "))}</text>`
    : box.lines.map((line, n) => `<text x="${x}" y="${first + 13 * n}">${escapeText(line)}</text>`).join("");
  return `<g class="part ${state}${open ? " open" : ""}${here ? " here" : ""}${chosen ? " chosen" : ""}"` +
    ` data-kind="${kind}" data-id="${id}"><title>${escapeText(path)}</title>` +
    `<rect x="${box.x}" y="${top}" width="${box.width}" height="${height}" rx="5"/>${words}</g>` +
    (open ? insideSvg(box, current) : "");
}

/** The boxes of a module, and the line out of it. */
function insideSvg(box, current) {
  const last = box.inner.at(-1), middle = BOX.top + BOX.height / 2;
  return `${connections(box.inner, box.x)}<path class="line" d="M${last.x + last.width} ${middle}` +
    `H${box.x + box.width}"/>${box.inner.map(b => boxSvg(b, current)).join("")}`;
}

const inside = ROOT.children.reduce((n, c) => n + 1 + (c.group ? c.group.children.length : 0), 0);
const [BOXES, DRAWN_WIDTH] = placeBoxes(ROOT.children, 4, inside <= MOST_BOXES);
drawing.hidden = ROOT.children.length > MOST_BOXES;

function drawDrawing() {
  if (drawing.hidden) return;
  const event = EVENTS[position - 1], current = event ? event[1] : -1;
  const scrolled = drawing.scrollLeft;
  drawing.innerHTML = `<svg width="${DRAWN_WIDTH}" height="78" role="group" aria-label="drawing of the ` +
    `model">${connections(BOXES, null)}${BOXES.map(box => boxSvg(box, current)).join("")}</svg>`;
  drawing.scrollLeft = scrolled;
  const here = BOXES.find(box => current >= box.first && current <= box.last);
  if (!here) return;
  const out = here.x < scrolled || here.x + here.width > scrolled + drawing.clientWidth;
  if (out) drawing.scrollLeft = here.x - 20;
}

drawing.addEventListener("click", event => {
  const part = event.target.closest("[data-kind]");
  if (part) { taken(); goTo(part.dataset.kind, Number(part.dataset.id)); }
});
