// An array as a card: colors (blue below zero, white at zero, red above), numbers, statistics.

const WIDTH = 240, HEIGHT = 180;  // pixels that a picture may take

/** Red, green, blue of t in -1 .. 1. */
function color(t) {
  if (Number.isNaN(t)) return [255, 0, 255];
  const s = Math.min(1, Math.abs(t)), end = t < 0 ? [33, 102, 172] : [178, 24, 43];
  return end.map(c => Math.round(247 + (c - 247) * s));
}

/**
 * A card for an array.
 * @param ref number of the array; its shape and statistics are shown
 * @param what HTML above the picture
 * @param numbers shown in place of the array's own (a partial sum)
 */
function arrayCard(ref, what, numbers = null) {
  const card = document.createElement("div");
  card.className = "card";
  card.dataset.array = ref;
  const array = DATA.arrays[ref];
  const x = numbers || values(ref);
  card.innerHTML = `<div class="what">${what}</div><div class="facts">${facts(array, numbers)}</div>`;
  if (!array.shape.length) {
    card.insertAdjacentHTML("beforeend", `<div class="scalar">${short(x[0])}</div>`);
  } else if (x.length) {
    picture(card, array, x);
  }
  return card;
}

function facts(array, numbers) {
  const parts = [shapeText(array.shape), array.dtype];
  if (!numbers && array.low !== null && array.shape.length) {
    parts.push(`${short(array.low)} … ${short(array.high)}`, `norm ${short(array.norm)}`);
  }
  if (array.bad) parts.push(`<b>${array.bad} NaN or infinite</b>`);
  if (array.kept.join() !== array.shape.join()) parts.push(`corner ${shapeText(array.kept)} shown`);
  return parts.join(" · ");
}

/** Adds the canvas, the choice of leading indices and the table of numbers to a card. */
function picture(card, array, x) {
  const kept = array.kept, wrap = kept.length === 1 && kept[0] > 64;
  const columns = wrap ? 64 : kept.at(-1);
  const rows = wrap ? Math.ceil(kept[0] / 64) : kept.length > 1 ? kept.at(-2) : 1;
  const leading = kept.slice(0, -2);
  let top = 0, where = 0;
  x.forEach((v, i) => {
    if (Number.isFinite(v) && Math.abs(v) > top) [top, where] = [Math.abs(v), i];
  });
  const empty = x.subarray(0, rows * columns).every(v => v === 0);
  const chosen = sliceOf(empty ? where : 0, leading, rows * columns);
  const start = () => leading.reduce((at, n, axis) => at * n + chosen[axis], 0) * rows * columns;
  const view = { kept, wrap, columns, rows, chosen, top, x, start };
  const canvas = document.createElement("canvas");
  const read = document.createElement("div");
  read.className = "read";
  read.textContent = top ? `white 0, darkest ±${short(top)}` : "all 0";
  const table = document.createElement("div");
  table.className = "numbers";
  table.hidden = true;
  const draw = () => {
    paint(canvas, view);
    if (!table.hidden) table.innerHTML = numberTable(view);
  };
  card.append(chooser(leading, chosen, draw, table), canvas, read, table);
  canvas.addEventListener("pointermove", event => { read.textContent = readOut(event, canvas, view); });
  canvas.addEventListener("pointerdown", event => { read.textContent = readOut(event, canvas, view); });
  draw();
}

/** Leading indices of the slice that holds element `i`. */
function sliceOf(i, leading, size) {
  let rest = Math.floor(i / size);
  return leading.map((_, axis) => {
    const below = leading.slice(axis + 1).reduce((a, b) => a * b, 1);
    const index = Math.floor(rest / below);
    rest -= index * below;
    return index;
  });
}

function paint(canvas, { columns, rows, top, x, start }) {
  canvas.width = columns;
  canvas.height = rows;
  const cell = Math.max(2, Math.min(16, WIDTH / columns, HEIGHT / rows));
  canvas.style.width = `${Math.round(columns * cell)}px`;
  canvas.style.height = `${Math.round(rows * Math.max(cell, Math.min(14, 28 / rows)))}px`;
  const context = canvas.getContext("2d"), image = context.createImageData(columns, rows);
  for (let i = 0; i < columns * rows; i++) {
    const v = x[start() + i];
    if (v === undefined) continue;  // the rest of a wrapped last row
    const [r, g, b] = color(top ? v / top : 0);
    image.data.set([r, g, b, 255], 4 * i);
  }
  context.putImageData(image, 0, 0);
}

/** Index and value under the pointer: "[0, 3, 17] = -0.0123". */
function readOut(event, canvas, view) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / box.width * view.columns);
  const row = Math.floor((event.clientY - box.top) / box.height * view.rows);
  if (column < 0 || row < 0 || column >= view.columns || row >= view.rows) return "";
  const v = view.x[view.start() + row * view.columns + column];
  if (v === undefined) return "";
  const index = view.kept.length > 1 ? [...view.chosen, row, column]
    : [view.wrap ? row * view.columns + column : column];
  return `[${index.join(", ")}] = ${+v.toPrecision(7)}`;
}

/** Number fields for all axes but the last two, and the switch to the numbers. */
function chooser(leading, chosen, draw, table) {
  const line = document.createElement("div");
  line.className = "choose";
  leading.forEach((n, axis) => {
    const label = document.createElement("label");
    label.innerHTML = `axis ${axis} <input type="number" min="0" max="${n - 1}" value="${chosen[axis]}">`;
    label.firstElementChild.addEventListener("input", event => {
      chosen[axis] = Math.max(0, Math.min(n - 1, Number(event.target.value) || 0));
      draw();
    });
    line.append(label);
  });
  const button = document.createElement("button");
  button.textContent = "numbers";
  button.addEventListener("click", () => {
    table.hidden = !table.hidden;
    button.textContent = table.hidden ? "numbers" : "colors only";
    draw();
  });
  line.append(button);
  return line;
}

function numberTable({ columns, rows, x, start, wrap }) {
  const across = Math.min(columns, 64), down = Math.min(rows, 64), lines = [];
  lines.push(`<tr><th></th>${[...Array(across).keys()].map(c => `<th>${c}</th>`).join("")}</tr>`);
  for (let r = 0; r < down; r++) {
    const first = start() + r * columns;
    const cells = [...x.subarray(first, Math.min(first + across, x.length))];
    const head = wrap ? r * columns : r;
    lines.push(`<tr><th>${head}</th>${cells.map(v => `<td>${short(v)}</td>`).join("")}</tr>`);
  }
  return `<table>${lines.join("")}</table>`;
}
