// The left side: rows and lanes. Only what is in view is in the document, so that the size of the
// graph does not matter.

const ROW = matchMedia("(pointer: coarse)").matches ? 38 : 30;  // height in pixels
const LANE = 14, MARGIN = 12, INDENT = 14, MOST_LANES = 14;
const tree = document.getElementById("tree"), sheet = document.getElementById("sheet");
let rows = [], layout = null, selected = { kind: "", id: -1 };

const laneX = lane => MARGIN + Math.min(lane, MOST_LANES) * LANE;
const textX = () => laneX(layout.lanes) + 4;

/** Recomputes rows and lanes after a module was folded or unfolded. */
function refold() {
  rows = visibleRows();
  layout = layOut(rows);
  sheet.style.height = `${rows.length * ROW}px`;
  drawTree();
}

/** Puts the rows in view into the document. */
function drawTree() {
  const first = Math.max(0, Math.floor(tree.scrollTop / ROW) - 8);
  const last = Math.min(rows.length, Math.ceil((tree.scrollTop + tree.clientHeight) / ROW) + 8);
  const parts = [boxes(first, last), lanesSvg(first, last)];
  for (let r = first; r < last; r++) parts.push(rowHtml(r));
  sheet.innerHTML = parts.join("");
  const chosen = `row-${selected.kind}-${selected.id}`;  // for those who hear the page
  if (document.getElementById(chosen)) tree.setAttribute("aria-activedescendant", chosen);
  else tree.removeAttribute("aria-activedescendant");
}

/** Frames around the rows of unfolded modules. */
function boxes(first, last) {
  const parts = [];
  rows.forEach((row, r) => {
    if (!row.open) return;
    let end = r + 1;
    while (end < rows.length && rows[end].depth > row.depth) end++;
    if (end < first || r > last) return;
    const left = textX() + row.depth * INDENT - 4;
    parts.push(`<div class="box" style="left:${left}px;right:2px;top:${r * ROW + 1}px;` +
               `height:${(end - r) * ROW - 2}px"></div>`);
  });
  return parts.join("");
}

function lanesSvg(first, last) {
  const width = textX(), height = (last - first) * ROW, parts = [];
  for (const edge of layout.edges) {
    if (edge.to < first || edge.from > last) continue;
    const back = edge.uses.some(u => u.carries && NODES[u.user].backwardAt < position);
    const forth = edge.uses.some(u => NODES[u.user].forwardAt < position);
    const stroke = back ? "var(--gradient)" : forth ? "var(--forward)" : "var(--edge)";
    parts.push(`<path d="${edgePath(edge, rows, ROW, laneX)}" fill="none" stroke="${stroke}"` +
               ` stroke-width="${back ? 2.2 : 1.6}"/>`);
  }
  for (let r = first; r < last; r++) {
    if (rows[r].open) continue;
    const state = rowState(rows[r]).state;
    const shape = rows[r].group ? "rect x='-5' y='-5' width='10' height='10' rx='2'" : "circle r='4.5'";
    parts.push(`<g transform="translate(${laneX(rows[r].lane)} ${(r + 0.5) * ROW})" class="${state}">` +
               `<${shape} fill="${fillOf(state)}" stroke="currentColor" stroke-width="2"/></g>`);
  }
  return `<svg width="${width}" height="${height}" style="top:${first * ROW}px" ` +
         `viewBox="0 ${first * ROW} ${width} ${height}">${parts.join("")}</svg>`;
}

const fillOf = state => ["complete", "walked"].includes(state) ? "currentColor" : "var(--back)";

function rowState(row) {
  if (row.group) return groupState(row.group);
  const node = NODES[row.node], state = nodeState(row.node);
  const text = state === "partial" ? `${arrivedSoFar(node)}/${node.arrived.length}` : "";
  return { state, text };
}

function rowHtml(r) {
  const row = rows[r], { state, text } = rowState(row);
  const kind = row.group ? "group" : "op", id = row.group ? row.group.id : row.node;
  const chosen = selected.kind === kind && selected.id === id;
  const event = EVENTS[position - 1];
  const current = !row.open && event && layout.rowOfNode[event[1]] === r ? " current" : "";
  const twist = row.group ? row.open ? "▾" : "▸" : "";
  const expanded = row.group ? ` aria-expanded="${row.open}"` : "";
  return `<div class="row ${kind} ${state}${current}" role="treeitem" id="row-${kind}-${id}"` +
    ` data-row="${r}" aria-level="${row.depth + 1}" aria-selected="${chosen}"${expanded}` +
    ` style="top:${r * ROW}px;height:${ROW}px;padding-left:${textX() + row.depth * INDENT}px">` +
    `<span class="twist">${twist}</span>${row.group ? groupLabel(row.group) : opLabel(row.node)}` +
    `<span class="fill"></span>` +
    (row.open ? "" : `<span class="sign ${state}" title="${MEANINGS[state]}">${text} ${SIGNS[state]}</span>`) + "</div>";
}

function groupLabel(group) {
  const n = group.last - group.first + 1, plain = DATA.plain[group.label];
  const before = plain && plainLetters(plain) !== plainLetters(group.label)
    ? `<span class="under">${escapeText(plain)} · </span>` : "";
  return `<span class="label group">${before}<b>${escapeText(group.label)}</b></span>` +
    `<span class="shape">${n} ops</span>`;
}

function opLabel(i) {
  const node = NODES[i];
  const before = node.prefix || plainName(i);
  const prefix = before ? `<span class="under">${escapeText(before)} · </span>` : "";
  const hint = "a parameter: click for its value and gradient";
  const leaves = node.inputs.filter(input => input.leaf !== null).map(input =>
    `<button class="chip" data-leaf="${input.leaf}" tabindex="-1" title="${hint}">${escapeText(input.name)}</button>`);
  return `<span class="label">${prefix}${escapeText(node.name)}</span>` +
    `<span class="shape">${node.outputs.map(shapeOf).join(" ")}</span>${leaves.join("")}`;
}

/** Scrolls so that row r can be seen. */
function showRow(r) {
  const top = r * ROW, bottom = top + ROW;
  if (top < tree.scrollTop + ROW) tree.scrollTop = Math.max(0, top - 2 * ROW);
  else if (bottom > tree.scrollTop + tree.clientHeight - ROW) {
    tree.scrollTop = bottom - tree.clientHeight + 2 * ROW;
  }
}

/** Row of what is selected; of a leaf, that of its first user; -1 of nothing. */
function selectedRow() {
  if (!selected.kind) return -1;
  if (selected.kind === "op") return layout.rowOfNode[selected.id];
  if (selected.kind === "group") return rows.findIndex(row => row.group?.id === selected.id);
  const user = NODES.findIndex(node => node.inputs.some(input => input.leaf === selected.id));
  return user < 0 ? 0 : layout.rowOfNode[user];
}

function toggle(group) {
  if (!unfolded.delete(group.id)) unfolded.add(group.id);
  refold();
}

tree.addEventListener("click", event => {
  taken();
  const chip = event.target.closest("[data-leaf]");
  if (chip) return select("leaf", Number(chip.dataset.leaf));
  const element = event.target.closest(".row");
  if (!element) return;
  const row = rows[Number(element.dataset.row)];
  if (!row.group) return select("op", row.node);
  toggle(row.group);
  select("group", row.group.id);
});
let willDraw = false;
const drawSoon = () => {
  if (willDraw) return;
  willDraw = true;
  requestAnimationFrame(() => { willDraw = false; drawTree(); });
};
tree.addEventListener("scroll", drawSoon);
addEventListener("resize", drawSoon);
