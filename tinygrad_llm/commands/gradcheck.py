"""``tinygrad-llm gradcheck``: every gradient against finite differences, as a table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from tinygrad_llm.autograd.registry import Op, get_op
from tinygrad_llm.backend import module_for
from tinygrad_llm.commands.program import add_device, command_parser, parse
from tinygrad_llm.explain.op.list import ops_by_family
from tinygrad_llm.explain.proof import RTOL, OpProof, check_gpt, check_op, op_lines
from tinygrad_llm.terminal import say


def main(argv: list[str] | None = None) -> int:
    """Print both tables; 0 when everything passed, 1 otherwise."""
    parser = command_parser(
        "gradcheck", "Check every op and every parameter of a small GPT against finite differences."
    )
    parser.add_argument("ops", nargs="*", metavar="OP", help="only these ops (default: all)")
    parser.add_argument("--no-gpt", action="store_true", help="leave the GPT out")
    add_device(parser)
    args = parse(parser, argv)
    module_for(args.device)
    start = time.perf_counter()
    chosen = [get_op(name) for name in args.ops] or ops_by_family()
    proofs: list[OpProof] = []
    for line in op_lines(_checked(chosen, args.device, proofs)):
        say(line, flush=True)
    ok = all(p.passed for p in proofs)
    worst = max(p.error for p in proofs)
    if not args.no_gpt and not args.ops:
        report = check_gpt(device=args.device)
        say(f"\nA GPT of 2 blocks, tied head, dropout 0.1, every parameter:\n{report}")
        ok, worst = ok and report.passed, max(worst, report.error)
    planted, caught = sum(p.planted for p in proofs), sum(p.caught for p in proofs)
    say(
        f"\n{'PASS' if ok else 'FAIL'}: {len(proofs)} ops, worst relative error {worst:.1e} "
        f"(limit {RTOL:.0e}),\n{caught} of {planted} planted mistakes caught (wrong derivatives, "
        f"and gradients\nof the wrong shape, type or number), {time.perf_counter() - start:.1f} s."
    )
    return 0 if ok else 1


def _checked(ops: Sequence[Op], device: str, proofs: list[OpProof]) -> Iterator[OpProof]:
    """The proof of each op, also put into ``proofs``."""
    for op in ops:
        proofs.append(check_op(op, device=device))
        yield proofs[-1]
