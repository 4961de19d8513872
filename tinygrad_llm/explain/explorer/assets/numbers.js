// The numbers of a card: under the pointer, as a table, and which slice of a larger array.

/** Index, value and place under the pointer: "[0, 3, 17] = -0.0123", "position 3 ‘a’, channel 17". */
function readOut(event, canvas, view) {
  const box = canvas.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left) / box.width * view.columns);
  const row = Math.floor((event.clientY - box.top) / box.height * view.rows);
  if (column < 0 || row < 0 || column >= view.columns || row >= view.rows) return "";
  const at = view.start() + row * view.columns + column, v = view.x[at];
  if (v === undefined) return "";
  const index = view.kept.length > 1 ? [...view.chosen, row, column]
    : [view.wrap ? row * view.columns + column : column];
  const places = index.map((i, axis) => placeText(view.array, axis, i, view.chosen)).slice(-2);
  const masked = view.hides(at) ? " masked" : "";
  return `<span class="value">[${index.join(", ")}] = ${+v.toPrecision(7)}</span>${masked}` +
    `<div class="place">${escapeText(places.join(", "))}</div>`;
}

/** Number fields for all axes but the last two, and the switch to the numbers. */
function chooser({ array, leading, chosen }, draw, table) {
  const line = document.createElement("div");
  line.className = "choose";
  leading.forEach((n, axis) => {
    const label = document.createElement("label");
    label.innerHTML = `${escapeText(axisName(array, axis))} <input type="number" min="0" ` +
      `max="${n - 1}" value="${chosen[axis]}">`;
    label.firstElementChild.addEventListener("input", event => {
      chosen[axis] = Math.max(0, Math.min(n - 1, Number(event.target.value) || 0));
      draw();
    });
    line.append(label);
  });
  const button = document.createElement("button");
  button.textContent = "numbers";
  button.title = "show the numbers as a table";
  button.addEventListener("click", () => {
    table.hidden = !table.hidden;
    button.textContent = table.hidden ? "numbers" : "colors only";
    draw();
  });
  line.append(button);
  return line;
}

/** A small array of integers as a table; ids with the tokens that they stand for. */
function integers(card, array, x) {
  const columns = array.shape.at(-1) || 1, lines = [];
  const word = v => holdsTokens(array)
    ? `<bdi>${escapeText(TEXT.vocabulary[v])}</bdi><small>${v}</small>` : v;
  for (let first = 0; first < x.length; first += columns) {
    lines.push(`<tr>${[...x.subarray(first, first + columns)].map(v => `<td>${word(v)}</td>`).join("")}</tr>`);
  }
  card.insertAdjacentHTML("beforeend", `<div class="numbers integers"><table>${lines.join("")}</table></div>`);
}

function numberTable(view) {
  const { array, columns, rows, x, start, wrap, chosen } = view, n = array.shape.length;
  const across = Math.min(columns, 64), down = Math.min(rows, 64), lines = [];
  const along = axis => wrap || axis < 0 ? null : tokensAlong(array, axis, chosen);
  const above = along(n - 1), left = along(n - 2);
  const head = (labels, i) => `<th>${i}${labels ? ` <bdi>${escapeText(labels[i])}</bdi>` : ""}</th>`;
  lines.push(`<tr><th></th>${[...Array(across).keys()].map(c => head(above, c)).join("")}</tr>`);
  for (let r = 0; r < down; r++) {
    const first = start() + r * columns;
    const cells = [...x.subarray(first, Math.min(first + across, x.length))];
    lines.push(`<tr>${head(left, wrap ? r * columns : r)}` +
      `${cells.map(v => `<td>${short(v)}</td>`).join("")}</tr>`);
  }
  return `<table>${lines.join("")}</table>`;
}
