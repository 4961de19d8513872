// The arrays of the page. Each stands in the data once; its numbers are decoded when first wanted.

const DATA = JSON.parse(document.getElementById("data").textContent);
Object.setPrototypeOf(DATA.plain, null);  // "constructor" is no name that it has
const decoded = new Map();

/** Numbers of array `ref` (of its kept corner), in C order. */
function values(ref) {
  if (!decoded.has(ref)) {
    const text = atob(DATA.arrays[ref].data);
    const bytes = Uint8Array.from(text, c => c.charCodeAt(0));
    decoded.set(ref, new Float32Array(bytes.buffer));
  }
  return decoded.get(ref);
}

/** A number with four significant digits. */
function short(x) {
  if (x === null || Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "-inf";
  if (Number.isInteger(x) && Math.abs(x) < 1e6) return String(x);
  const size = Math.abs(x);
  return size >= 1e5 || size < 1e-4 ? x.toExponential(3) : String(+x.toPrecision(4));
}

/** "(2, 16, 32)" */
const shapeText = shape => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

/** Shape of array `ref`, or an empty text. */
const shapeOf = ref => ref === null || ref === undefined ? "" : shapeText(DATA.arrays[ref].shape);

function byteText(n) {
  return n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB`
    : `${(n / (1 << 20)).toFixed(1)} MiB`;
}

/** Sum of arrays of one shape as numbers, for gradients that have arrived so far. */
function sumOf(refs) {
  const total = Float32Array.from(values(refs[0]));
  for (const ref of refs.slice(1)) {
    const more = values(ref);
    for (let i = 0; i < total.length; i++) total[i] += more[i];
  }
  return total;
}

const escapes = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" };

/** Control, format and line characters written out: one that turns the direction would turn the rest. */
const visible = text => String(text).replace(/[\p{C}\p{Zl}\p{Zp}]/gu, c =>
  `\\u${c.codePointAt(0).toString(16).padStart(4, "0")}`);

/** Text as HTML. */
const escapeText = text => visible(text).replace(/[&<>"]/g, c => escapes[c]);

/** A path as HTML that may break after its dots, and nowhere else. */
const breakable = text => escapeText(text).replace(/\./g, ".<wbr>");
