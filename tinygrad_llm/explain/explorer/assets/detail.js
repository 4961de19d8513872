// The right side: everything about the selected op, parameter or module.

const detail = document.getElementById("detail");
const opLink = i => `<a href="#node=${i}" title="${escapeText(nodePath(i))}">${nameFromHere(i)}</a>`;
const leafLink = i => `<a href="#leaf=${i}">${breakable(DATA.leaves[i].name)}</a>`;

/** The path of an op without what it shares with that of the selected one. */
function nameFromHere(i) {
  const here = selected.kind === "op" ? scopeParts(NODES[selected.id].scope) : [];
  const parts = [...scopeParts(NODES[i].scope), NODES[i].name];
  let same = 0;
  while (same < here.length && same < parts.length - 1 && here[same] === parts[same]) same++;
  return breakable(parts.slice(same).join("."));
}

function drawDetail() {
  detail.replaceChildren();
  if (isNew) introduction();
  if (selected.kind === "op") opDetail(selected.id);
  else if (selected.kind === "leaf") leafDetail(selected.id);
  else if (selected.kind === "group") groupDetail(GROUPS[selected.id]);
  else overview();
}

const add = html => detail.insertAdjacentHTML("beforeend", html);

/**
 * A row of cards under a heading; `items` are elements or HTML texts. A sign stays with the card
 * behind it, so that no arrow hangs at the end of a row.
 */
function section(heading, items) {
  if (!items.length) return;
  add(`<h3>${heading}</h3><div class="cards"></div>`);
  const cards = detail.lastElementChild;
  let place = cards;
  for (const item of items) {
    if (typeof item === "string") {
      cards.insertAdjacentHTML("beforeend", `<div class="pair">${item}</div>`);
      place = cards.lastElementChild;
    } else {
      place.append(item);
      place = cards;
    }
  }
}

function folded(summary, html) {
  return html ? `<details><summary>${summary}</summary>${html}</details>` : "";
}

const code = text => text && `<pre>${escapeText(text)}</pre>`;

// ---- an op ----------------------------------------------------------------------------------

function opDetail(i) {
  const node = NODES[i], op = DATA.ops[node.name];
  const plain = escapeText(op.plain), name = `<code>${escapeText(node.name)}</code>`;
  const formula = node.formula || op.formula;
  add(`<h2>${plainName(i) ? `${plain} ${name}` : plain.replace(/_/g, " ")}</h2>` +
      `<p class="path">${pathLinks(node)}</p><p class="now">${stateText(i)}</p>` +
      (formula ? `<div class="formula">${formula}</div>` : "") +
      folded("Derivation of its gradient", op.doc));
  section("Forward: inputs and result", [
    ...node.inputs.map(input => arrayCard(input.value, inputText(input))),
    '<div class="sum">→</div>',
    ...node.outputs.map((ref, k) => later(arrayCard(ref, `<b>${resultName(node, k)}</b>`),
                                          node.forwardAt < position)),
  ]);
  attentionSection(node);
  node.dy.forEach((ref, k) => { if (ref !== null) gradientSection(node, ref, k); });
  localSection(node);
  const walked = node.backwardAt < position;
  section("Gradients it sends to its inputs", node.inputs.filter(x => x.sent !== null).map(x =>
    later(arrayCard(x.sent, `<b>d${escapeText(x.name)}</b> to ${madeBy(x)}`), walked)));
  add(`<h3>Facts</h3>${opFacts(node)}`);
  if (node.saved.length) add(folded("Arrays kept for backward", savedTable(node)));
  add("<h3>Source</h3>" + folded("forward", code(op.forward)) + folded("backward", code(op.backward)));
}

/** Where the op is in the step, in words. */
function stateText(i) {
  const state = nodeState(i), sign = `<span class="${state}">${SIGNS[state]}</span>`;
  const words = state === "complete" && !NODES[i].arrived.length
    ? "the walk back begins here, with the derivative of the result with respect to itself: 1"
    : MEANINGS[state];
  return `${sign} ${words}`;
}

function pathLinks(node) {
  const parts = [];
  for (let g = node.group; g && g !== ROOT; g = g.parent) {
    parts.unshift(`<a href="#module=${g.id}">${escapeText(g.label)}</a>`);
  }
  return [...parts, ...(node.prefix ? [escapeText(node.prefix)] : []), escapeText(node.name)].join(" › ");
}

function opFacts(node) {
  const items = [
    ["time", `forward ${node.us[0]} µs, backward ${node.us[1]} µs`],
    ["kept for backward", `${byteText(node.saved_bytes)} that no earlier op keeps`],
  ];
  if (node.ran) items.push(["computed by", escapeText(node.ran)]);
  const options = Object.entries(node.options).map(([k, v]) => `${k}=${v}`);
  if (options.length) items.push(["options", escapeText(options.join(", "))]);
  return `<dl>${items.map(([k, v]) => `<dt>${k}</dt><dd>${v}</dd>`).join("")}</dl>`;
}

function madeBy(input) {
  if (input.leaf !== null) return leafLink(input.leaf);
  return input.source === null ? "the data" : opLink(input.source);
}

const inputText = input => `<b>${escapeText(input.name)}</b> from ${madeBy(input)}`;
const resultName = (node, k) => `y${node.outputs.length > 1 ? k : ""}`;

/** Dims a card whose array does not exist yet at this step. */
function later(card, exists) {
  if (!exists) card.classList.add("later");
  return card;
}

/** What arrives at result k, contribution by contribution, and the sum. */
function gradientSection(node, ref, k) {
  const name = `d${resultName(node, k)}`;
  const sent = node.arrived.filter(c => c.output === k);
  const items = contributionCards(sent);
  const here = sent.filter(c => NODES[c.source].backwardAt < position);
  if (!sent.length) {
    items.push(later(arrayCard(ref, `<b>${name}</b>, where the walk starts: the derivative of the ` +
      "result with respect to itself"), node.backwardAt <= position));
  } else if (sent.length > 1) {
    items.push(...sumCards(ref, name, sent, here));
  }
  const count = sent.length > 1 ? ` (${here.length} of ${sent.length} have arrived)` : "";
  section(`Gradient that arrives: ${name}${count}`, items);
}

function contributionCards(sent) {
  const items = [];
  sent.forEach((c, n) => {
    if (n) items.push('<div class="sum">+</div>');
    const what = `from ${opLink(c.source)}, through its <b>${escapeText(c.argument)}</b>`;
    items.push(later(arrayCard(c.gradient, what), NODES[c.source].backwardAt < position));
  });
  return items;
}

/** "=" and the sum of all contributions, or of those that are here. */
function sumCards(ref, name, sent, here) {
  const sign = '<div class="sum">=</div>';
  if (here.length === sent.length) return [sign, arrayCard(ref, `<b>${name}</b>, complete`)];
  if (!here.length) return [sign, later(arrayCard(ref, `<b>${name}</b>, later`), false)];
  return [sign, arrayCard(ref, "<b>sum so far</b>", { numbers: sumOf(here.map(c => c.gradient)) })];
}

function localSection(node) {
  const local = node.local;
  if (!local) return;
  const place = local.element.length ? `[${local.element.join(", ")}]` : "";
  const at = resultName(node, local.output) + place;
  const items = node.inputs.map((input, k) => [input, local.rows[k]]).filter(pair => pair[1] !== null)
    .map(([input, ref]) => arrayCard(ref, local.elementwise
      ? `<b>f'(${escapeText(input.name)})</b>, element by element`
      : `d ${at} / d <b>${escapeText(input.name)}</b>`));
  const heading = local.elementwise ? "Local derivative: what dy is multiplied by"
    : place ? `Local derivative of one element, ${at}, where the gradient is largest`
      : "Local derivative of the result";
  section(heading, items);
}

function savedTable(node) {
  const lines = node.saved.map(([shape, dtype, bytes]) =>
    `<tr><td>${shapeText(shape)}</td><td>${dtype}</td><td>${byteText(bytes)}</td></tr>`);
  return `<table class="list">${lines.join("")}</table>`;
}
