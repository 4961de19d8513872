// What the axes of an array are, and which tokens stand along them.

const TEXT = DATA.text;  // tokens, targets, predictions; null where no text went in
let example = 0;  // which text of the batch is shown

/** "channel", or "axis 2" where it is not known. */
const axisName = (array, axis) => array.axes[axis] || `axis ${axis}`;

/** "batch, position, channel", or nothing where no axis is known. */
const axesText = array => array.axes.some(Boolean)
  ? array.shape.map((_, axis) => axisName(array, axis)).join(", ") : "";

/** Tokens along an axis, or null. `chosen` are the indices of the leading axes. */
function tokensAlong(array, axis, chosen) {
  if (!TEXT) return null;
  const name = array.axes[axis], n = array.shape[axis];
  let labels = null;
  if (name === "vocabulary") labels = TEXT.vocabulary;
  else if (name === "batch × position") labels = TEXT.tokens.flat();
  else if (name === "position") {
    const batch = array.axes.indexOf("batch");  // chosen, or an axis of the picture itself
    if (batch < 0 ? TEXT.tokens.length === 1 : batch < chosen.length || array.shape[batch] === 1) {
      labels = TEXT.tokens[chosen[batch] ?? 0];
    }
  }
  return labels && labels.length === n ? labels : null;
}

/** "position 4 ‘a’" */
function placeText(array, axis, index, chosen) {
  const labels = tokensAlong(array, axis, chosen);
  return `${axisName(array, axis)} ${index}${labels ? ` ‘${labels[index]}’` : ""}`;
}

/** Leading indices to begin with: the example that the text shows, otherwise those given. */
function withExample(array, chosen) {
  const batch = array.axes.indexOf("batch");
  if (batch >= 0 && batch < chosen.length && example < array.kept[batch]) chosen[batch] = example;
  return chosen;
}

/** Whether an array holds tokens of the texts: the ids that go in, or the targets. */
const holdsTokens = array => TEXT?.vocabulary && array.axes.join() === "batch,position" &&
  array.dtype.startsWith("int") && array.low >= 0 && array.high < TEXT.vocabulary.length;

/** A line of labels beside a picture; `size` pixels each. */
function labelLine(kind, labels, size) {
  const cells = labels.map(label => {
    const length = kind === "columns" ? "width" : "height";
    return `<span style="${length}:${size}px" title="${escapeText(label)}">` +
      `<bdi>${escapeText([...label].slice(0, 7).join(""))}</bdi></span>`;
  });
  return `<div class="labels ${kind}" aria-hidden="true">${cells.join("")}</div>`;
}
