// The strip with the text: what went in, what the model expects next, what was right.

const strip = document.getElementById("text");

/** "97 %", never rounded to certainty. */
function percent(p) {
  const n = 100 * p;
  return n > 99 && n < 100 ? ">99 %" : n < 1 && n > 0 ? "<1 %" : `${Math.round(n)} %`;
}

function drawText() {
  strip.hidden = !TEXT;
  if (!TEXT) return;
  const tokens = TEXT.tokens[example], known = TEXT.op !== null && NODES[TEXT.op].forwardAt < position;
  const line = (name, title, cell, extra = "") =>
    `<tr class="${extra}"><th scope="row" title="${title}">${name}</th>` +
    `${tokens.map((_, t) => cell(t)).join("")}</tr>`;
  const lines = [line("goes in", "the tokens that the model reads", t =>
    `<td title="position ${t}"><bdi>${escapeText(tokens[t])}</bdi></td>`)];
  if (TEXT.predicted) {
    lines.push(line("predicted next", "the most probable next token, by the model's softmax", guess,
                    known ? "" : "later"));
  }
  if (TEXT.targets) {
    lines.push(line("really next", "the target: the token that follows in the text", target));
  }
  const scrolled = strip.scrollLeft;
  strip.innerHTML = `${examples()}<table>${lines.join("")}</table>`;
  strip.scrollLeft = scrolled;
}

/** A cell with the target, or a stroke where the loss ignores the position. */
function target(t) {
  const token = TEXT.targets[example][t];
  return token === null ? `<td title="position ${t} does not count in the loss">–</td>`
    : `<td><bdi>${escapeText(token)}</bdi></td>`;
}

/** A cell with the predicted token, its probability, and whether it is right. */
function guess(t) {
  const token = TEXT.predicted[example][t], chance = TEXT.chance[example][t];
  const target = TEXT.targets?.[example][t] ?? null, right = token === target;
  const told = target === null ? "" : right ? "; that is right"
    : `; right is ‘${target}’, which has ${percent(TEXT.target_chance[example][t])}`;
  const title = `after position ${t}: ‘${token}’ with ${percent(chance)}${told}`;
  const kind = target === null ? "" : right ? "right" : "wrong";
  return `<td class="${kind}" title="${escapeText(title)}"><bdi>${escapeText(token)}</bdi>` +
    `<small>${percent(chance)}</small></td>`;
}

/** Which text of the batch is shown. */
function examples() {
  if (TEXT.tokens.length < 2) return "";
  const options = TEXT.tokens.map((_, b) =>
    `<option value="${b}"${b === example ? " selected" : ""}>text ${b + 1} of ` +
    `${TEXT.tokens.length}</option>`);
  return `<select id="example" aria-label="text of the batch" title="which text of the batch is ` +
    `shown, here and in the pictures">${options.join("")}</select>`;
}

strip.addEventListener("change", event => {
  example = Number(event.target.value);
  drawText();
  drawDetail();
});
