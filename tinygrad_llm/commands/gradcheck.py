"""``tinygrad-llm gradcheck``: every gradient against finite differences, as a table."""

from __future__ import annotations

import time

from tinygrad_llm.autograd.registry import REGISTRY, get_op
from tinygrad_llm.backend import module_for
from tinygrad_llm.commands.program import add_device, command_parser, parse
from tinygrad_llm.explain.proof import RTOL, check_gpt, check_op, op_lines


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
    chosen = [get_op(name) for name in args.ops] or list(REGISTRY.values())
    proofs = [check_op(op, device=args.device) for op in chosen]
    print("\n".join(op_lines(proofs)))
    ok = all(p.passed for p in proofs)
    worst = max(p.error for p in proofs)
    if not args.no_gpt and not args.ops:
        report = check_gpt(device=args.device)
        print(f"\nA GPT of 2 blocks, tied head, dropout 0.1, every parameter:\n{report}")
        ok, worst = ok and report.passed, max(worst, report.error)
    planted, caught = sum(p.planted for p in proofs), sum(p.caught for p in proofs)
    print(
        f"\n{'PASS' if ok else 'FAIL'}: {len(proofs)} ops, worst relative error {worst:.1e} "
        f"(limit {RTOL:.0e}), {caught} of {planted} planted mistakes caught "
        "(wrong derivatives, and gradients of the wrong shape, type or number), "
        f"{time.perf_counter() - start:.1f} s."
    )
    return 0 if ok else 1
