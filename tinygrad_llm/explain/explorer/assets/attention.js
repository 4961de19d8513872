// Where attention looks: one picture for each head.

const MOST_HEADS = 16;

/** The pictures of an attention op; those of the example that the text shows. */
function attentionSection(node) {
  if (!node.attention) return;
  const { weights, hidden } = node.attention, array = DATA.arrays[weights];
  if (array.shape.length !== 4) return;
  const batch = Math.min(example, array.kept[0] - 1), heads = Math.min(array.kept[1], MOST_HEADS);
  const cards = [...Array(heads).keys()].map(head => later(
    arrayCard(weights, `<b>head ${head}</b>`, { chosen: [batch, head], hidden, top: 1 }),
    node.forwardAt < position));
  section("Where each head looks", cards);
  const all = array.shape[1] > heads ? ` ${heads} of ${array.shape[1]} heads are shown.` : "";
  detail.lastElementChild.classList.add("attention");
  detail.lastElementChild.insertAdjacentHTML("beforebegin",
    "<p>A row is a position that looks, a column one that is looked at; a row adds up to 1. The op " +
    "keeps no such matrix: it was computed again for this page, by the formula " +
    `softmax(q k<sup>T</sup>&nbsp;/&nbsp;√D).${all}</p>`);
}
