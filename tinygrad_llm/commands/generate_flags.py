"""The flags of ``generate`` that say how the text goes on, and which of them exclude others."""

from __future__ import annotations

from tinygrad_llm.commands.flags import Parser, count, seed, within

TOKENS = 200


def add_text_flags(parser: Parser) -> None:
    """Where the text comes from, where it ends, and how it goes on."""
    text = parser.add_argument_group("text")
    prompt = text.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", default="", help="the text to continue")
    prompt.add_argument(
        "--text", metavar="FILE", help="take the prompt from a UTF-8 file, as it stands"
    )
    text.add_argument(
        "--tokens",
        type=count,
        metavar="N",
        help=f"write at most this many (default: {TOKENS}; with --beams what the context holds)",
    )
    text.add_argument(
        "--stop",
        action="append",
        default=[],
        metavar="TEXT",
        help="stop before this text; may be given several times",
    )
    _add_choice_flags(parser)


def _add_choice_flags(parser: Parser) -> None:
    choice = parser.add_argument_group("how the next token is chosen")
    greedy = "0: greedy (default: 0.8)"
    choice.add_argument("--temperature", type=within(0), default=0.8, metavar="X", help=greedy)
    choice.add_argument("--top-k", type=count, metavar="K", help="choose among the K most probable")
    top_p = "choose among the most probable, up to a total probability of P"
    choice.add_argument("--top-p", type=within(0, 1, above=True), metavar="P", help=top_p)
    min_p = "choose among those at least P times as probable as the best"
    choice.add_argument("--min-p", type=within(0, 1), metavar="P", help=min_p)
    choice.add_argument(
        "--repetition-penalty",
        type=within(0, above=True),
        default=1.0,
        metavar="X",
        help="above 1: avoid tokens that occurred already (default: 1)",
    )
    choice.add_argument(
        "--seed",
        type=seed,
        metavar="N",
        help="the same seed gives the same text (default: a random one, which is printed)",
    )
    choice.add_argument(
        "--slide",
        type=count,
        metavar="N",
        help="tokens to forget at once when the context is full (default: a quarter of it)",
    )


def exclude_what_has_no_effect(parser: Parser) -> None:
    """Refuse flags that the chosen task would ignore."""
    choice = "--temperature --top-k --top-p --min-p --repetition-penalty --seed --stop --slide"
    for flag in ("--perplexity", "--compare"):
        why = "it measures a given text and writes none"
        parser.exclude(flag, ["--tokens", *choice.split()], why)
    parser.exclude("--beams", choice.split(), "a beam search draws nothing at random")
    parser.exclude("--interactive", ["--prompt", "--text"], "it asks for the prompts")
    parser.exclude("--explain", ["--stop"], "it shows every step up to the last token")
