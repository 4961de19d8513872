// An array as a card: colors (blue below zero, white at zero, red above), numbers, statistics.
// The two colors are the ends of ColorBrewer's RdBu, which can be told apart by the color-blind.

const WIDTH = 240, HEIGHT = 180;  // pixels that a picture may take
const LABEL = 11;  // pixels that a label needs
const MOST_ROWS = 32;  // that get labels
const MOST_INTEGERS = 600;  // that are shown as numbers: the colors of ids would mean nothing
const HATCH = 8;  // pixels of the canvas that a hatched cell has
const NEGATIVE = [33, 102, 172], POSITIVE = [178, 24, 43], NOTHING = 247;

/** Red, green, blue of t in -1 .. 1. */
function color(t) {
  if (Number.isNaN(t)) return [255, 0, 255];
  const s = Math.min(1, Math.abs(t)), end = t < 0 ? NEGATIVE : POSITIVE;
  return end.map(c => Math.round(NOTHING + (c - NOTHING) * s));
}

/**
 * A card for an array.
 * @param ref number of the array; its shape and statistics are shown
 * @param what HTML above the picture
 * @param how numbers: shown in place of the array's own (a partial sum); chosen: leading indices
 *   that stay; hidden: array with 1 where a mask hides the number; top: the number of full color
 */
function arrayCard(ref, what, how = {}) {
  const card = document.createElement("div");
  card.className = "card";
  card.dataset.array = ref;
  const array = DATA.arrays[ref], x = how.numbers || values(ref);
  card.innerHTML = `<div class="what">${what}</div>` +
    (how.chosen ? "" : `<div class="facts">${facts(array, how.numbers)}</div>`);
  if (!array.shape.length) {
    card.insertAdjacentHTML("beforeend", `<div class="scalar">${short(x[0])}</div>`);
  } else if (x.length && x.length <= MOST_INTEGERS && array.dtype.startsWith("int")) {
    integers(card, array, x);
  } else if (x.length) {
    picture(card, array, x, how);
  }
  return card;
}

function facts(array, numbers) {
  const parts = [shapeText(array.shape), array.dtype];
  if (!numbers && array.low !== null && array.shape.length) {
    parts.push(`${short(array.low)} … ${short(array.high)}`, `norm ${short(array.norm)}`);
  }
  if (array.bad > array.hidden) parts.push(`<b>${array.bad - array.hidden} NaN or infinite</b>`);
  if (array.hidden) parts.push(`${array.hidden} ${hiddenWord(array)}`);
  if (array.kept.join() !== array.shape.join()) parts.push(`corner ${shapeText(array.kept)} shown`);
  const axes = axesText(array);
  return (axes ? `<span class="axes">${axes}</span>` : "") + parts.join(" · ");
}

/** What minus infinity means: scores of positions that a mask hides, or just that. */
const hiddenWord = array => array.axes.at(-1) === "position" && array.axes.at(-2) === "position"
  ? "masked (−∞)" : "−∞";

/** What is drawn: which part of the array, in how many rows and columns. */
function viewOf(array, x, how) {
  const kept = array.kept, wrap = kept.length === 1 && kept[0] > 64;
  const columns = wrap ? 64 : kept.at(-1);
  const rows = wrap ? Math.ceil(kept[0] / 64) : kept.length > 1 ? kept.at(-2) : 1;
  const leading = kept.slice(0, -2);
  let top = 0, where = 0;
  x.forEach((v, i) => {
    if (Number.isFinite(v) && Math.abs(v) > top) [top, where] = [Math.abs(v), i];
  });
  const empty = x.subarray(0, rows * columns).every(v => v === 0);
  const first = withExample(array, sliceOf(empty ? where : 0, leading, rows * columns));
  const chosen = how.chosen || first;
  const start = () => leading.reduce((at, n, axis) => at * n + chosen[axis], 0) * rows * columns;
  const mask = how.hidden === undefined ? null : values(how.hidden);
  const hides = mask ? i => mask[i] > 0 : i => x[i] === -Infinity;
  return { array, kept, wrap, columns, rows, leading, chosen, top: how.top || top, x, start, hides };
}

/** Adds the picture, its legend, the choice of leading indices and the table to a card. */
function picture(card, array, x, how) {
  const view = viewOf(array, x, how);
  const plot = document.createElement("div"), read = document.createElement("div");
  const table = document.createElement("div"), canvas = document.createElement("canvas");
  plot.className = "plot";
  read.className = "read";
  table.className = "numbers";
  table.hidden = true;
  const draw = () => {
    drawPlot(plot, canvas, view);
    if (!table.hidden) table.innerHTML = numberTable(view);
  };
  if (!how.chosen) card.append(chooser(view, draw, table));
  card.append(plot);
  card.insertAdjacentHTML("beforeend", legend(view, how));
  card.append(read, table);
  for (const kind of ["pointermove", "pointerdown"]) {
    canvas.addEventListener(kind, event => { read.innerHTML = readOut(event, canvas, view); });
  }
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

/** The canvas with the names of its axes, and tokens along them where they fit. */
function drawPlot(plot, canvas, view) {
  const { array, rows, columns, wrap, chosen } = view, n = array.shape.length;
  const along = axis => wrap || axis < 0 ? null : tokensAlong(array, axis, chosen);
  const left = rows <= MOST_ROWS ? along(n - 2) : null, above = along(n - 1);
  const square = Math.max(2, Math.min(16, WIDTH / columns, HEIGHT / rows));
  const height = Math.max(square, Math.min(14, 28 / rows), left ? LABEL : 0);
  const fits = above && square >= LABEL;
  canvas.style.width = `${Math.round(columns * square)}px`;
  canvas.style.height = `${Math.round(rows * height)}px`;
  plot.innerHTML = `<div class="axis across">${escapeText(axisName(array, n - 1))} →</div>` +
    (fits ? labelLine("columns", above.slice(0, columns), square) : "") +
    (n > 1 ? `<div class="axis down">${escapeText(axisName(array, n - 2))} →</div>` : "") +
    (left ? labelLine("rows", left.slice(0, rows), height) : "");
  plot.append(canvas);
  paint(canvas, view);
}

function paint(canvas, { columns, rows, top, x, start, hides }) {
  const first = start(), cells = [];
  let hatched = false;
  for (let i = 0; i < columns * rows; i++) {
    const v = x[first + i];
    if (v === undefined) break;  // the rest of a wrapped last row
    const hidden = hides(first + i);
    hatched ||= hidden;
    cells.push(hidden ? null : color(top ? v / top : 0));
  }
  const k = hatched && columns * rows <= 16384 ? HATCH : 1;
  canvas.width = columns * k;
  canvas.height = rows * k;
  const context = canvas.getContext("2d");
  cells.forEach((rgb, i) => {
    const left = (i % columns) * k, up = Math.floor(i / columns) * k;
    context.fillStyle = rgb ? `rgb(${rgb})` : "#b4b9c1";
    context.fillRect(left, up, k, k);
    if (rgb || k === 1) return;
    context.strokeStyle = "#7d848f";
    context.beginPath();
    context.moveTo(left, up + k);
    context.lineTo(left + k, up);
    context.stroke();
  });
}

/** Which color is which sign, up to which number, and what is hatched. */
function legend({ array, x, top, hides }, how) {
  if (!top) return '<div class="legend">all 0</div>';
  const below = x.some(v => v < 0 && v !== -Infinity), above = x.some(v => v > 0);
  const end = short(top), kind = below && above ? "both" : below ? "below" : "above";
  const low = below ? `blue −${end}` : "white 0", high = above ? `${end} red` : "0 white";
  const hatched = how.hidden !== undefined ? "masked" : hiddenWord(array);
  const hidden = x.some((_, i) => hides(i)) ? `<span><span class="hatch"></span> ${hatched}</span>` : "";
  return `<div class="legend" title="blue is negative, white 0, red positive">${low} ` +
    `<span class="bar ${kind}"></span> ${high} ${hidden}</div>`;
}
