// Keyboard and search.

const search = document.getElementById("search"), found = document.getElementById("found");
const MOST_FOUND = 60;
let matches = [], marked = 0;

/** Everything that can be searched for: [text, kind, id]. */
const INDEX = [
  ...GROUPS.slice(1).filter(g => g.children.length).map(g => [`module ${g.path}`, "group", g.id]),
  ...NODES.map((_, i) => [`${nodePath(i)}  #${i}`, "op", i]),
  ...DATA.leaves.map((leaf, i) => [`parameter ${leaf.name}`, "leaf", i]),
];

function findNow() {
  const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
  matches = !words.length ? [] : INDEX.filter(([text]) =>
    words.every(word => text.toLowerCase().includes(word))).slice(0, MOST_FOUND);
  marked = 0;
  showFound();
}

function showFound() {
  found.hidden = !matches.length && !search.value.trim();
  found.innerHTML = matches.length ? matches.map(([text], k) =>
    `<div role="option" data-match="${k}" aria-selected="${k === marked}">${escapeText(text)}</div>`
  ).join("") : "<div>nothing found</div>";
  found.querySelector("[aria-selected=true]")?.scrollIntoView({ block: "nearest" });
}

function takeMatch(k) {
  if (!matches[k]) return;
  const [, kind, id] = matches[k];
  taken();
  search.value = "";
  matches = [];
  showFound();
  goTo(kind, id);
  tree.focus();
}

search.addEventListener("input", findNow);
search.addEventListener("keydown", event => {
  const move = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (move) {
    marked = Math.max(0, Math.min(matches.length - 1, marked + move));
    showFound();
  } else if (event.key === "Enter") takeMatch(marked);
  else if (event.key === "Escape") { search.value = ""; findNow(); tree.focus(); }
  else return;
  event.preventDefault();
});
found.addEventListener("pointerdown", event => {
  const match = event.target.closest("[data-match]");
  if (match) takeMatch(Number(match.dataset.match));
  event.preventDefault();
});

/** Selects the row `by` rows further down. */
function moveSelection(by) {
  const r = Math.max(0, Math.min(rows.length - 1, selectedRow() + by)), row = rows[r];
  select(row.group ? "group" : "op", row.group ? row.group.id : row.node);
  showRow(r);
}

const KEYS = {
  ArrowDown: () => moveSelection(1), j: () => moveSelection(1),
  ArrowUp: () => moveSelection(-1), k: () => moveSelection(-1),
  ArrowRight: event => step(event.shiftKey ? "into" : "next"), ArrowLeft: () => step("back"),
  p: () => togglePlay(), Home: () => step("start"), End: () => step("end"),
  Enter: () => selected.kind === "group" && toggle(GROUPS[selected.id]),
  " ": () => selected.kind === "group" && toggle(GROUPS[selected.id]),
  "/": () => search.focus(), e: () => foldAll(false), c: () => foldAll(true),
  "?": () => document.getElementById("help").showModal(),
};

addEventListener("keydown", event => {
  const typing = event.target.closest("input:not([type=range]), select, textarea, dialog");
  const slides = event.target === slider && /^(Arrow|Home|End|Page)/.test(event.key);
  if (typing || slides || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("button, summary, a") && ["Enter", " "].includes(event.key)) return;
  const action = KEYS[event.key];
  if (!action) return;
  event.preventDefault();
  if (action !== KEYS.p) taken();
  action(event);
});
