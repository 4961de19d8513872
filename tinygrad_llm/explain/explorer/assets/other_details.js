// The right side for what is no op: the whole step, a parameter, a module.

let isNew = true;  // nothing has been clicked yet

/** What a newcomer reads first. */
function introduction() {
  const model = ROOT.children.some(child => child.group) ? "the model" : "the graph";
  const text = TEXT ? "The text goes in at the top. " : "";
  add(`<div class="intro"><h2>One training step, op by op, with its real numbers</h2>
    <p>${text}<b class="forward">Forward</b>, each op computes its result from its inputs, up to the
    loss. Then <b class="gradient">backward</b>, from the loss to the parameters: each op takes the
    gradient that arrives and sends one to each of its inputs. The drawing and the list show
    ${model} and where the step is; below is the op that ran last.</p>
    <p><button data-play title="play the whole step (p)">▶ Play</button> the step, or go on with
    <button data-step="next" title="one step on (→)">Step ▶</button> and the <kbd>→</kbd> key. Click
    any box, row or name to look at it.</p></div>`);
}

const SLOWEST = 8;

/** What is shown first: how to read the page, and where the time went. */
function overview() {
  const last = NODES.at(-1), loss = last.outputs[0];
  const scalar = loss !== undefined && !DATA.arrays[loss].shape.length;
  const sum = pick => NODES.reduce((total, node) => total + pick(node), 0);
  add(`<h2>${escapeText(DATA.title)}</h2><p class="path">${escapeText(DATA.made_with)}</p>
    <p>The list has the ops of the step, top to bottom in the order in which they ran; the lines
    show which result goes where. A bold name is a module: click it to unfold it. Click an op for
    its formula, its numbers, and the gradients that met there.</p>
    <p>Press <button data-step="start">|◀ Start</button> and then <button data-play>▶ Play</button> or
    the <kbd>→</kbd> key to run the step op by op: first forwards, in blue, then backwards from the loss, in
    orange. A node whose result was used twice waits for two gradients: ◐ until both have arrived,
    and only then, ✓, does its own backward run.</p><dl>` +
    (scalar ? `<dt>${lossName(last)}</dt><dd>${short(values(loss)[0])}</dd>` : "") +
    `<dt>ops</dt><dd>${NODES.length}, in ${EVENTS.length} events</dd>
    <dt>parameters</dt><dd>${DATA.leaves.length} arrays</dd>
    <dt>time</dt><dd>forward ${(sum(n => n.us[0]) / 1e3).toFixed(2)} ms, ` +
    `backward ${(sum(n => n.us[1]) / 1e3).toFixed(2)} ms</dd>
    <dt>kept for backward</dt><dd>at most ${byteText(DATA.peak_saved_bytes)} at one time</dd></dl>
    <h3>The slowest ops</h3>${slowestTable()}`);
}

/** "loss (cross-entropy)", or the op that made the last number. */
function lossName(node) {
  const name = [node.name, ...scopeParts(node.scope)].find(part => DATA.losses.includes(part));
  return name ? `loss (${escapeText(DATA.plain[name] || name)})` : escapeText(node.name);
}

function slowestTable() {
  const byTime = NODES.map((node, i) => [node.us[0] + node.us[1], i]).sort((a, b) => b[0] - a[0]);
  const lines = byTime.slice(0, SLOWEST).map(([us, i]) =>
    `<tr><td>${opLink(i)}</td><td>${us.toFixed(1)} µs</td>` +
    `<td>${byteText(NODES[i].saved_bytes)}</td></tr>`);
  return `<table class="list"><tr><th>op</th><th>time</th><th>kept</th></tr>${lines.join("")}</table>`;
}

function leafDetail(i) {
  const leaf = DATA.leaves[i];
  add(`<h2>${breakable(leaf.name)}</h2><p class="path">a leaf: gradients end here, in .grad</p>`);
  section("Value", [arrayCard(leaf.value, "")]);
  const here = leaf.arrived.filter(c => NODES[c.source].backwardAt < position);
  const items = contributionCards(leaf.arrived);
  if (leaf.arrived.length > 1) items.push(...sumCards(leaf.gradient, "grad", leaf.arrived, here));
  section(`Gradient (${here.length} of ${leaf.arrived.length} have arrived)`, items);
}

function groupDetail(group) {
  const inside = NODES.slice(group.first, group.last + 1);
  const sum = pick => inside.reduce((total, node) => total + pick(node), 0);
  add(`<h2>${breakable(group.path)}</h2><p class="path">a module: ${inside.length} ops</p><dl>` +
      `<dt>time</dt><dd>forward ${sum(n => n.us[0]).toFixed(1)} µs, ` +
      `backward ${sum(n => n.us[1]).toFixed(1)} µs</dd>` +
      `<dt>kept for backward</dt><dd>${byteText(sum(n => n.saved_bytes))}</dd></dl>`);
  const leaves = new Set(inside.flatMap(n => n.inputs.map(x => x.leaf)).filter(x => x !== null));
  const outside = i => i !== null && (i < group.first || i > group.last);
  const entering = [], leaving = [];
  inside.forEach((node, k) => {
    for (const x of node.inputs) {
      if (outside(x.source)) entering.push([x, group.first + k]);
    }
    if (node.arrived.some(c => outside(c.source))) leaving.push(group.first + k);
  });
  section("What comes in", entering.map(([x, i]) =>
    arrayCard(x.value, `from ${madeBy(x)} to ${opLink(i)}`)));
  section("Gradient that comes back into the module", leaving.flatMap(i =>
    NODES[i].dy.filter(ref => ref !== null).map(ref => later(
      arrayCard(ref, `at ${opLink(i)}, from all its users`), NODES[i].backwardAt <= position))));
  if (leaves.size) add(`<h3>Parameters</h3>${leafTable([...leaves])}`);
}

function leafTable(leaves) {
  const lines = leaves.map(i => {
    const leaf = DATA.leaves[i], array = DATA.arrays[leaf.value];
    const norm = leaf.gradient === null ? "none" : short(DATA.arrays[leaf.gradient].norm);
    return `<tr><td>${leafLink(i)}</td><td>${shapeText(array.shape)}</td>` +
      `<td>${short(array.norm)}</td><td>${norm}</td></tr>`;
  });
  return '<table class="list"><tr><th>name</th><th>shape</th><th>norm</th><th>norm of gradient</th>' +
    `</tr>${lines.join("")}</table>`;
}
