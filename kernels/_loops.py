"""The loops of a kernel's machine code, found in its graph of branches.

A loop is a block of instructions (its head) that some branch leads back to, where every way to that
branch goes through the head; with all blocks on the way they are a "natural loop" (Aho, Lam, Sethi,
Ullman, "Compilers", section 9.6). One round may go different ways: a tile of attention that needs
a mask is the longer one. So the shortest and the longest round are counted.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

Graph = dict[int, list[int]]  # a block, by its first address -> the blocks that may follow it
Round = tuple[int, int, int]  # instructions, products, exponentials

SHORTEST = 8  # instructions: shorter loops only wait for a barrier, or trap after the end


class Instruction(NamedTuple):
    """One line of machine code."""

    address: int
    name: str  # with its suffixes: LDG.E.128
    target: int | None  # where it may lead other than to the next
    leaves: bool  # whether it never goes on to the next: a branch or an exit without a condition


@dataclasses.dataclass(frozen=True)
class Loop:
    """An innermost loop: what a warp issues in one round of it.

    A round is several of the source's where the assembler has unrolled the loop.
    """

    instructions: int  # in the shortest round
    longest: int  # in the longest
    products: int  # HGMMA, HMMA and UTCHMMA in the longest
    exponentials: int  # MUFU in the longest: also reciprocals, logarithms, square roots


def innermost_loops(instructions: list[Instruction]) -> Iterator[Loop]:
    """Loops that contain no other, in the order of the code."""
    blocks = _blocks(instructions)
    graph = _graph(blocks)
    dominators = _dominators(graph)
    heads: Graph = {}
    for block, after in graph.items():
        for head in dominators[block].intersection(after):
            heads.setdefault(head, []).append(block)
    forward = {b: [a for a in after if a not in dominators[b]] for b, after in graph.items()}
    found: dict[int, tuple[set[int], Loop]] = {}
    for head, ends in sorted(heads.items()):
        body = _body(graph, head, ends)
        rounds = _rounds(forward, {b: _cost(blocks[b]) for b in body}, head, ends)
        shortest, longest = min(rounds), max(rounds)
        if longest[0] >= SHORTEST:
            found[head] = body, Loop(shortest[0], *longest)
    for head, (body, loop) in found.items():
        if body.isdisjoint(found.keys() - {head}):
            yield loop


def _blocks(instructions: list[Instruction]) -> dict[int, list[Instruction]]:
    """Stretches that are entered at the first instruction and left after the last."""
    starts = {i.target for i in instructions}
    found: dict[int, list[Instruction]] = {}
    here = None
    for i in instructions:
        if here is None or i.address in starts:
            here = i.address
        found.setdefault(here, []).append(i)
        if i.leaves or i.target is not None:
            here = None
    return found


def _graph(blocks: dict[int, list[Instruction]]) -> Graph:
    graph: Graph = {}
    following = [*list(blocks)[1:], None]
    for block, after in zip(blocks, following, strict=True):
        last = blocks[block][-1]
        ways = [last.target, None if last.leaves else after]
        graph[block] = [way for way in ways if way is not None]
    return graph


def _dominators(graph: Graph) -> dict[int, set[int]]:
    """The blocks that every way from the entry to a block goes through, itself among them."""
    before: Graph = {block: [] for block in graph}
    for block, after in graph.items():
        for other in after:
            before[other].append(block)
    entry, everything = next(iter(graph)), set(graph)
    found = {block: {block} if block == entry else everything for block in graph}
    changed = True
    while changed:
        changed = False
        for block in list(graph)[1:]:
            ways = [found[other] for other in before[block]]
            new = {block} | (set.intersection(*ways) if ways else set())
            changed |= new != found[block]
            found[block] = new
    return found


def _body(graph: Graph, head: int, ends: list[int]) -> set[int]:
    """All blocks on ways from the head to the blocks that lead back to it."""
    body, waiting = {head}, list(ends)
    while waiting:
        block = waiting.pop()
        if block not in body:
            body.add(block)
            waiting += [other for other, after in graph.items() if block in after]
    return body


def _cost(block: list[Instruction]) -> Round:
    names = [i.name for i in block]
    return (len(names), sum(n.startswith(("HGMMA", "HMMA", "UTCHMMA")) for n in names),
            sum(n.startswith("MUFU") for n in names))


def _rounds(forward: Graph, costs: dict[int, Round], head: int, ends: list[int]) -> set[Round]:
    """The shortest and the longest way from the head back to it, through inner loops once."""
    memory: dict[int, set[Round]] = {}

    def ways(block: int) -> set[Round]:
        if block not in memory:
            further = {way for after in forward[block] if after in costs for way in ways(after)}
            further |= {(0, 0, 0)} if block in ends else set()
            added = {_sum(costs[block], way) for way in further}
            memory[block] = {min(added), max(added)} if added else set()
        return memory[block]

    return ways(head)


def _sum(a: Round, b: Round) -> Round:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]
