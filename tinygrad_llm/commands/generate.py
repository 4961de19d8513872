"""Let a model write.

    tinygrad-llm generate                              # the newest run below runs/
    tinygrad-llm generate runs/pydoc-bpe --prompt "The statement"
    tinygrad-llm generate gpt2 --prompt "Every effort moves you" --top-p 0.9
    tinygrad-llm generate runs/pydoc-bpe --interactive
    tinygrad-llm generate runs/pydoc-bpe --explain     # the candidates at each step
    tinygrad-llm generate runs/a --compare runs/b --text novel.txt

The model is a checkpoint's folder, a run's folder, a folder of Hugging Face or OpenAI, or a name.
The text appears as it is generated; Ctrl-C ends it. Control characters in it are written as signs,
in a file and a pipe, too; tabs, line breaks and all other characters stay as they are.
"""

from __future__ import annotations

import argparse
import math
import secrets
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from tinygrad_llm.commands.flags import Parser, whole
from tinygrad_llm.commands.generate_flags import TOKENS, add_text_flags, exclude_what_has_no_effect
from tinygrad_llm.commands.program import add_device, add_dtype, command_parser, run_program
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.data.documents import read_text
from tinygrad_llm.errors import ConfigError, DataError, TinygradLLMError
from tinygrad_llm.generation.beam_search import beam_search
from tinygrad_llm.generation.generate import Step
from tinygrad_llm.generation.generate_text import check_stop_strings, stream_steps, until_stop
from tinygrad_llm.generation.next_scores import context_of
from tinygrad_llm.generation.open_checkpoint import newest_run, open_checkpoint
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.generation.scoring import compare, perplexity, shown_perplexity, top_candidates
from tinygrad_llm.nn import Module
from tinygrad_llm.terminal import fitting, print_as_it_comes, say
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.report.samples import start_id

MOST_BEAMS = 1000  # each is a row of the cache and a text


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("generate", __doc__)
    add = parser.add_argument
    add("model", nargs="?", help="a folder, or a name like gpt2 (default: the newest run in runs/)")
    add_device(parser)
    add_dtype(parser)
    group = parser.add_argument_group("what to do, instead of continuing a prompt")
    task = group.add_mutually_exclusive_group()
    task.add_argument("--interactive", action="store_true", help="ask for prompts until Ctrl-D")
    task.add_argument(
        "--explain", action="store_true", help="show the ten most probable tokens at each step"
    )
    task.add_argument(
        "--beams", type=whole(1, MOST_BEAMS), metavar="N", help="beam search with N beams"
    )
    task.add_argument(
        "--perplexity",
        action="store_true",
        help="say how well the model predicts --text or --prompt",
    )
    task.add_argument("--compare", metavar="MODEL", help="perplexity of this and of another model")
    add_text_flags(parser)
    exclude_what_has_no_effect(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program; an error becomes one sentence and status 2."""
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]
    return run_program(run, build_parser(), argv)


def run(options: argparse.Namespace) -> int:
    """Open the model and do what was asked."""
    check_stop_strings(options.stop)
    prompt = read_text(Path(options.text)) if options.text else options.prompt
    if (options.compare or options.perplexity) and not prompt:
        raise ConfigError("there is no text to measure. Give one: --text FILE or --prompt TEXT.")
    source = options.model or newest_run(Path("runs"))
    model, tokenizer = open_checkpoint(source, options.device, options.dtype)
    say(f"{one_line(source)}: {model.num_parameters():,} parameters", file=sys.stderr)
    say_what_is_unknown(tokenizer, prompt)
    if options.compare or options.perplexity:
        return show_scores(model, tokenizer, prompt, options)
    if options.beams:
        return show_beams(model, tokenizer, prompt, options)
    options.seed = secrets.randbelow(2**31) if options.seed is None else options.seed
    if options.interactive:
        return interact(model, tokenizer, options)
    if options.explain:
        return explain(model, tokenizer, prompt, options)
    write(model, tokenizer, prompt, options)
    return 0


def say_what_is_unknown(tokenizer: Tokenizer, prompt: str) -> None:
    """Warn of words that the model sees as one and the same unknown token."""
    unknown = list(dict.fromkeys(tokenizer.unknown_words(prompt)))
    if unknown:
        listed = one_line(", ".join(unknown))
        say(f"not in the vocabulary, so read as <|unk|>: {listed}", file=sys.stderr)


def sampling_of(options: argparse.Namespace) -> Sampling:
    """The settings of the choice."""
    return Sampling(
        options.temperature, options.top_k, options.top_p, options.min_p, options.repetition_penalty
    )


def ids_of(tokenizer: Tokenizer, text: str, options: argparse.Namespace) -> list[int]:
    """The ids of a text. What stands in a file is ordinary text, as in training."""
    if options.text:
        return tokenizer.encode(text, allowed_special=(), disallowed_special=())
    return tokenizer.encode(text, allowed_special="all")


def prompt_of(tokenizer: Tokenizer, prompt: str, options: argparse.Namespace) -> list[int]:
    """The prompt's ids; an empty prompt begins a new text."""
    return ids_of(tokenizer, prompt, options) or [start_id(tokenizer)]


def slide_of(model: Module, options: argparse.Namespace) -> int:
    """How many tokens to forget at once when the context is full."""
    return options.slide or max(1, context_of(model) // 4)


def steps_of(
    model: Module, tokenizer: Tokenizer, prompt: str, options: argparse.Namespace
) -> Iterator[tuple[Step | None, str]]:
    """The tokens that follow a prompt, each with its piece of text."""
    return stream_steps(
        model,
        tokenizer,
        prompt_of(tokenizer, prompt, options),
        options.tokens or TOKENS,
        sampling_of(options),
        seed=options.seed,
        slide=slide_of(model, options),
    )


def write(model: Module, tokenizer: Tokenizer, prompt: str, options: argparse.Namespace) -> None:
    """Print the prompt and its continuation as it comes."""
    steps = steps_of(model, tokenizer, prompt, options)
    times = [time.perf_counter()]
    pieces = until_stop(timed(steps, times), check_stop_strings(options.stop))
    try:
        print_as_it_comes(chain([prompt], pieces))
    finally:  # an error has a line of its own
        say()
    seconds = times[-1] - times[0]
    speed = f"{(len(times) - 1) / seconds:.1f}/s" if seconds else "at once"
    again = f"; the same again: --seed {options.seed}" if options.temperature else ""
    say(f"[{len(times) - 1} tokens, {speed}{again}]", file=sys.stderr)


def timed(steps: Iterator[tuple[Step | None, str]], times: list[float]) -> Iterator[str]:
    """The pieces of the steps; notes when each token came."""
    for step, piece in steps:
        if step is not None:
            times.append(time.perf_counter())
        yield piece


def interact(model: Module, tokenizer: Tokenizer, options: argparse.Namespace) -> int:
    """Prompt after prompt; Ctrl-C ends a text, Ctrl-D the program."""
    while True:
        try:
            prompt = input("\nprompt> ")
        except (EOFError, KeyboardInterrupt):
            say()
            return 0
        try:
            say_what_is_unknown(tokenizer, prompt)
            write(model, tokenizer, prompt, options)
            options.seed += 1  # another text for the same prompt
        except KeyboardInterrupt:
            say("\n[stopped]")
        except TinygradLLMError as error:
            say(f"[{error}]")


def explain(model: Module, tokenizer: Tokenizer, prompt: str, options: argparse.Namespace) -> int:
    """Show at each step what the model thought of, and what was drawn."""
    steps = steps_of(model, tokenizer, prompt, options)
    text = prompt
    for step, piece in steps:
        if step is None:
            break
        say(f"\n{text[-60:]!r} goes on with")
        chosen = int(step.tokens[0])
        shown = top_candidates(step.logits[0], tokenizer, 10)
        for candidate in shown:
            bar = "#" * round(40 * candidate.probability)
            mark = "  <- taken" if candidate.id == chosen else ""
            say(f"  {candidate.text!r:>16} {candidate.probability:7.2%} {bar}{mark}")
        if chosen not in [candidate.id for candidate in shown]:
            taken = tokenizer.decode([chosen])
            say(f"  {taken!r:>16} {math.exp(step.logprobs()[0]):7.2%}  <- taken")
        text += piece
    say(f"[seed {options.seed}]" if options.temperature else "[greedy]", file=sys.stderr)
    return 0


def room_for_beams(n_prompt: int, context: int, wanted: int | None) -> tuple[int, int]:
    """How many tokens beams write, and how many of the prompt, its last, they read.

    A beam search does not slide: both must fit into the context. Where no number is wanted and the
    prompt fills it, a quarter of the context is for new tokens.

    Raises:
        ConfigError: so many new tokens leave no room for a prompt.
    """
    if wanted is not None and wanted >= context:
        raise ConfigError(
            f"--tokens {wanted}: a beam search stays within the context of {context} tokens. Give "
            f"{context - 1} at most, or leave --tokens out."
        )
    if wanted is None:
        left = context - n_prompt
        wanted = min(TOKENS, left) if left > 0 else max(1, context // 4)
    return wanted, max(1, min(n_prompt, context - wanted))


def show_beams(
    model: Module, tokenizer: Tokenizer, prompt: str, options: argparse.Namespace
) -> int:
    """Print the best texts of a beam search."""
    end = tokenizer.end_of_text_id
    ids = prompt_of(tokenizer, prompt, options)
    n_new, n_read = room_for_beams(len(ids), context_of(model), options.tokens)
    if n_read < len(ids):
        say(f"the model reads the last {n_read} of the prompt's {len(ids)} tokens", file=sys.stderr)
    found = beam_search(
        model,
        ids[-n_read:],
        n_new,
        options.beams,
        stop_ids=[] if end is None else [end],
        vocab_size=tokenizer.vocab_size,
    )
    for beam in found:
        written = beam.ids[n_read : -1 if beam.ids[-1] == end else None].tolist()
        # a text without a prompt follows a start token
        text = fitting(tokenizer.decode([*(ids if prompt else []), *written]), sys.stdout)
        say(f"[{beam.logprob:.2f}, {beam.score:.3f} per token] {text}\n")
    return 0


def show_scores(model: Module, tokenizer: Tokenizer, text: str, options: argparse.Namespace) -> int:
    """Print the perplexity of a text under one model, or under two."""
    ids = ids_of(tokenizer, text, options)
    other = options.compare
    if other is None:
        score = perplexity(model, ids, n_bytes=len(text.encode("utf-8")))
        say(
            f"{score.tokens} tokens, loss {score.mean_loss:.4f}, perplexity "
            f"{shown_perplexity(score.value)}, {score.bits_per_byte:.3f} bits per byte"
        )
        return 0
    second, its_tokenizer = open_checkpoint(other, options.device, options.dtype)
    if ids_of(its_tokenizer, text, options) != ids:
        raise DataError(
            f"{other}: its tokenizer cuts the text differently, so the tokens cannot be compared "
            "one by one. Compare the bits per byte of two runs with --perplexity."
        )
    result = compare(model, second, ids)
    for name, score in (("first", result.first), ("second", result.second)):
        say(f"{name:>6}: loss {score.mean_loss:.4f}, perplexity {shown_perplexity(score.value)}")
    say(f"The second gives more probability to {result.better:.1%} of {len(ids) - 1} tokens.")
    say("Where they differ most (log-probability of second minus first):")
    for place in abs(result.differences).argsort()[::-1][:10]:
        before = tokenizer.decode(ids[max(0, place - 8) : place + 1])
        token = tokenizer.decode([ids[place + 1]])
        say(f"  {result.differences[place]:+7.2f}  {before!r} -> {token!r}")
    return 0
