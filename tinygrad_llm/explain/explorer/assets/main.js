// Puts the parts together: selection, stepping, the address, the buttons.

const slider = document.getElementById("position");
slider.max = EVENTS.length;

function select(kind, id) {
  selected = { kind, id };
  drawTree();
  drawDrawing();
  drawDetail();
  detail.scrollTop = 0;
  writeAddress();
}

/** Selects something that may be inside folded modules, and scrolls to it. */
function goTo(kind, id) {
  isNew = false;
  const around = kind === "op" ? NODES[id].group : kind === "group" ? GROUPS[id].parent : null;
  if (reveal(around)) refold();
  select(kind, id);
  showRow(selectedRow());
}

function foldAll(fold) {
  for (const group of GROUPS.slice(1)) {
    if (fold) unfolded.delete(group.id);
    else if (group.children.length) unfolded.add(group.id);
  }
  refold();
}

/** Moves to event `at` and selects the op that ran last. */
function moveTo(at) {
  position = Math.max(0, Math.min(EVENTS.length, at));
  slider.value = position;
  document.getElementById("event").innerHTML = eventText();
  drawText();
}

function step(how) {
  isNew = false;
  const next = EVENTS[position];
  if (how === "into" && next && reveal(NODES[next[1]].group)) refold();
  moveTo({
    start: () => 0, end: () => EVENTS.length, into: () => position + 1,
    next: () => positionOver(1, layout.rowOfNode), back: () => positionOver(-1, layout.rowOfNode),
  }[how]());
  followEvent();
}

/** Selects the row in which the last event happened. */
function followEvent() {
  const event = EVENTS[position - 1];
  if (event) {
    const row = rows[layout.rowOfNode[event[1]]];
    showRow(layout.rowOfNode[event[1]]);
    select(row.group ? "group" : "op", row.group ? row.group.id : row.node);
  } else {
    tree.scrollTop = 0;
    drawTree();
    drawDrawing();
    drawDetail();
    writeAddress();
  }
}

// ---- the address: #node=12&step=40, #leaf=3, #module=blocks.0 ---------------------------------

let waiting = 0;

/** Shortly after the last of many quick steps: browsers refuse too many changes of the address. */
function writeAddress() {
  clearTimeout(waiting);
  waiting = setTimeout(() => {
    const names = { op: "node", leaf: "leaf", group: "module" };
    const address = `#${names[selected.kind]}=${selected.id}&step=${position}`;
    if (selected.kind && address !== location.hash) history.replaceState(null, "", address);
  }, 150);
}

function idOf(text, all) {
  const id = /^\d+$/.test(text) ? Number(text) : all.findIndex(name => name === text);
  return id >= 0 && id < all.length ? id : -1;
}

/** Goes where the address says; returns whether it says anything. */
function readAddress() {
  const wanted = new URLSearchParams(location.hash.slice(1));
  if (wanted.has("step")) moveTo(Number(wanted.get("step")) || 0);
  const targets = {
    node: ["op", NODES.map((node, i) => nodePath(i))], leaf: ["leaf", DATA.leaves.map(x => x.name)],
    module: ["group", GROUPS.map(g => g.path)],
  };
  for (const [key, [kind, names]] of Object.entries(targets)) {
    if (!wanted.has(key)) continue;
    const id = idOf(wanted.get(key), names);
    if (id >= 0) { goTo(kind, id); return true; }
  }
  if (wanted.has("step")) followEvent();
  return wanted.has("step");
}

addEventListener("hashchange", readAddress);
document.addEventListener("click", event => {
  const button = event.target.closest("[data-step]");
  if (button) { taken(); step(button.dataset.step); }
});
document.getElementById("title").addEventListener("click", () => { taken(); select("", -1); });
slider.addEventListener("input", () => {
  taken();
  moveTo(Number(slider.value));
  followEvent();
});
document.getElementById("fold-all").addEventListener("click", () => foldAll(true));
document.getElementById("unfold-all").addEventListener("click", () => foldAll(false));
document.getElementById("help-button").addEventListener("click", () => KEYS["?"]());

const share = EVENTS.filter(([kind]) => kind !== BACKWARD).length / EVENTS.length;
document.getElementById("track").style.setProperty("--share", `${100 * share}%`);
moveTo(EVENTS.length);  // for an address that names no step
refold();
if (!readAddress()) {
  moveTo(1);
  followEvent();
}
// For the console, and for tests that compare the page's numbers with the engine's.
window.explorer = { data: DATA, values, nodeState, step, goTo, rows: () => rows,
                    position: () => position, isPlaying: () => playing !== 0 };
