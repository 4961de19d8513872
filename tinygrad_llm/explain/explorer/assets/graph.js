// The tree of modules over the list of ops, and which rows of it are visible.
//
// Ops are listed in the order in which they ran, so the ops of one module call stand together: a
// module is a stretch of the list, and folding it turns the stretch into one row.

const NODES = DATA.nodes;
const GROUPS = [];

/** "blocks.0.attention.qkv" -> ["blocks.0", "attention", "qkv"] */
const scopeParts = scope => scope.match(/[^.]+(?:\.\d+)*/g) || [];

function newGroup(parent, label, first) {
  const path = parent && parent.path ? `${parent.path}.${label}` : label;
  const depth = parent ? parent.depth + 1 : -1;
  const group = { id: GROUPS.length, parent, label, path, depth, first, last: first, children: [] };
  GROUPS.push(group);
  if (parent) parent.children.push({ group });
  return group;
}

/** Sorts the ops into groups; returns the group of everything. */
function buildTree() {
  const root = newGroup(null, "", 0);
  let open = [root];
  NODES.forEach((node, i) => {
    const parts = scopeParts(node.scope);
    let same = 0;
    while (same < parts.length && open[same + 1] && open[same + 1].label === parts[same]) same++;
    open = open.slice(0, same + 1);
    for (const part of parts.slice(same)) open.push(newGroup(open.at(-1), part, i));
    node.group = open.at(-1);
    node.group.children.push({ node: i });
    for (const group of open) group.last = i;
  });
  return root;
}

/** A module that consists of a single op gets no row of its own: the op carries its name. */
function dissolve(group) {
  group.children = group.children.map(child => {
    if (!child.group) return child;
    dissolve(child.group);
    const only = child.group.children.length === 1 && child.group.children[0];
    if (!only || only.node === undefined) return child;
    const node = NODES[only.node];
    node.prefix = node.prefix ? `${child.group.label}.${node.prefix}` : child.group.label;
    node.group = group;
    return { node: only.node };
  });
}

const ROOT = buildTree();
dissolve(ROOT);
const unfolded = new Set();  // ids of groups

/** Visible rows from top to bottom: {node | group, open, depth}. */
function visibleRows() {
  const rows = [];
  const walk = group => {
    for (const child of group.children) {
      if (child.group) {
        const open = unfolded.has(child.group.id);
        rows.push({ group: child.group, open, depth: child.group.depth });
        if (open) walk(child.group);
      } else {
        rows.push({ node: child.node, depth: group.depth + 1 });
      }
    }
  };
  walk(ROOT);
  return rows;
}

/** Unfolds all modules around an op or a group; returns whether any was folded. */
function reveal(group) {
  const before = unfolded.size;
  for (let g = group; g && g !== ROOT; g = g.parent) unfolded.add(g.id);
  return unfolded.size > before;
}

/** Names of an op for people: "norm1 · layer_norm". */
function nodeLabel(i) {
  const node = NODES[i];
  return node.prefix ? `${node.prefix} · ${node.name}` : node.name;
}

const plainLetters = name => name.toLowerCase().replace(/[^a-z0-9]/g, "");

/** What a textbook calls an op, where that is another name than the op's own; otherwise "". */
function plainName(i) {
  const { name } = NODES[i], { plain } = DATA.ops[name];
  return plainLetters(plain) === plainLetters(name) ? "" : plain;
}

/** The full path: "blocks.0.norm1.layer_norm". */
const nodePath = i => NODES[i].scope ? `${NODES[i].scope}.${NODES[i].name}` : NODES[i].name;
