"""Walk through the backpropagation of a real GPT's training step, in the browser.

    tinygrad-llm study                      # the ops as the model runs them
    tinygrad-llm study --small-ops          # attention, norms, GELU taken apart
    tinygrad-llm study --layers 4 --text "to be or not to be, that is the question"

Trains a small GPT on the characters of a sentence for some steps, so that the numbers are those of
a model that has learned something, records one more step, prints where its time and memory went,
and writes it as one HTML page that works without a network: runs/step.html, unless --out names
another file.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.commands.flags import Parser, seed, whole, within
from tinygrad_llm.commands.program import add_device, command_parser, run_program
from tinygrad_llm.explain.small_ops import small_ops
from tinygrad_llm.hints import command
from tinygrad_llm.terminal import say

PAGE = Path("runs/step.html")
TEXT = (
    "A gradient says how much the loss would change if this number changed a little. It starts "
    "at the loss with a one, and every op hands it on to its inputs, multiplied by its slope."
)


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("study", __doc__)
    parser.add_argument("--out", type=Path, metavar="FILE", help=f"page to write (default: {PAGE})")
    parser.add_argument("--text", default=TEXT, help="text to learn, character by character")
    parser.add_argument("--steps", type=whole(0), default=200, help="training steps beforehand")
    few = whole(1, 64)  # every op is a part of the page, with its numbers
    parser.add_argument("--layers", type=few, default=2)
    parser.add_argument("--heads", type=few, default=4)
    parser.add_argument(
        "--width", type=whole(1, 4096), default=32, help="embedding size, divisible by heads"
    )
    parser.add_argument(
        "--context", type=whole(1, 4096), default=16, help="characters the model sees"
    )
    parser.add_argument("--dropout", type=within(0, 0.99), default=0.0)
    parser.add_argument("--seed", type=seed, default=0)
    parser.add_argument(
        "--small-ops", action="store_true", help="run fused ops as the small ops they consist of"
    )
    add_device(parser)
    return parser


def study(args: argparse.Namespace) -> int:
    """Train, record one step, write the page."""
    check(args)
    tg.manual_seed(args.seed)
    tokenizer = tg.tokenizers.CharTokenizer.train(args.text)
    config = tg.nn.GPTConfig(
        vocab_size=tokenizer.vocab_size,
        context_length=args.context,
        n_layer=args.layers,
        n_head=args.heads,
        n_embd=args.width,
        dropout=args.dropout,
    )
    model = tg.nn.GPT(config).to(args.device)
    windows = windows_of(tokenizer.encode(args.text), args.context)
    rng = np.random.default_rng(args.seed)
    train(model, windows, args.steps, rng)

    ids, targets = batch(windows, 2, rng)
    model.zero_grad()
    with small_ops() if args.small_ops else nullcontext(), tg.trace(values=True) as t:
        loss = model.loss(ids, targets)
        loss.backward()
    title = f"A training step of a {args.layers}-layer GPT"
    page = tg.explore(t, page_to_write(args.out), model=model, title=title, tokenizer=tokenizer)
    # The page is there before so much is printed that `| head` may end the command.
    say(f"\nThe next step, op by op (loss {loss.item():.3f}):\n\n{t}\n")
    say(f"Wrote {page} ({page.stat().st_size / 1e6:.1f} MB). Open it in a browser.")
    say(next_steps(args.small_ops))
    return 0


def check(args: argparse.Namespace) -> None:
    """Refuse before the training what could only fail after it."""
    page = args.out or PAGE
    there = page.parent.is_dir() or (args.out is None and not page.parent.exists())
    if page.is_dir() or not there:
        raise tg.errors.DataError(
            f"{page} cannot be written. Name a file in a folder that is there: --out step.html"
        )


def page_to_write(out: Path | None) -> Path:
    """The file that was named, or the usual one, whose folder is made."""
    if out is None:
        PAGE.parent.mkdir(exist_ok=True)
    return out or PAGE


def next_steps(small_ops: bool) -> str:
    """What to run next."""
    apart = f"Attention, norms and GELU taken apart:\n  {command('study', '--small-ops')}\n"
    return f"{'' if small_ops else apart}One op and its gradient:\n  {command('explain', 'gelu')}"


def windows_of(ids: list[int], context: int) -> np.ndarray:
    """All stretches of context + 1 ids (N, T + 1)."""
    if len(ids) <= context:
        raise tg.errors.DataError(
            f"--text has {len(ids)} characters; it needs more than --context, {context}."
        )
    return np.lib.stride_tricks.sliding_window_view(np.array(ids), context + 1)


def batch(
    windows: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Random inputs and the ids that follow them, both (B, T)."""
    chosen = windows[rng.integers(0, len(windows), size)]
    return chosen[:, :-1], chosen[:, 1:]


def train(model: tg.nn.GPT, windows: np.ndarray, steps: int, rng: np.random.Generator) -> None:
    """Some steps of AdamW."""
    optimizer = tg.optim.AdamW(model.parameters(), lr=3e-3)
    for step in range(steps):
        loss = model.loss(*batch(windows, 16, rng))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if step in (0, steps - 1):
            say(f"step {step + 1:4}: loss {loss.item():.3f}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; an error becomes one sentence and status 2."""
    return run_program(study, build_parser(), argv)
