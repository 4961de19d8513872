"""Train a GPT on text.

    tinygrad-llm train                                 # the Python manual, in minutes
    tinygrad-llm train --preset tiny                   # a few seconds, to try
    tinygrad-llm train --data my_novel.txt --tokenizer char
    tinygrad-llm train --preset char --data tiny-shakespeare
    tinygrad-llm train --out runs/pydoc-bpe --resume   # continue after Ctrl-C
    mpiexec -n 2 tinygrad-llm train                    # two processes: docs/scaling.md

Prints the validation loss beside what counting tokens and pairs of tokens would achieve, shows
what the model writes, saves checkpoints that Hugging Face transformers can open, and ends with the
command to run next.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tinygrad_llm.commands.flags import Parser
from tinygrad_llm.commands.program import (
    add_yes,
    ask_before_deleting,
    command_parser,
    computing_as_said,
    in_one_sentence,
    parse,
)
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.distributed import Communicator, join_world, run_together, with_gpus
from tinygrad_llm.errors import ConfigError, MissingDependencyError, NumericsError, OutputError
from tinygrad_llm.explain.pictures import attention_maps
from tinygrad_llm.nn import GPT, Module
from tinygrad_llm.terminal import say
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.baselines import counting_baselines
from tinygrad_llm.training.lr_finder import draw_search, find_learning_rate
from tinygrad_llm.training.report.chosen import make_callbacks
from tinygrad_llm.training.report.samples import try_sample
from tinygrad_llm.training.report.summary import summarize, try_loss_curve
from tinygrad_llm.training.run.assemble import make_trainer
from tinygrad_llm.training.run.session import Session, without_folder
from tinygrad_llm.training.run.text import TokenText
from tinygrad_llm.training.run.together import open_together, require_same_text
from tinygrad_llm.training.settings.flags import (
    add_settings,
    add_sources,
    chosen_settings,
    describe,
)
from tinygrad_llm.training.stopping import CLOSED_OUTPUT, EXIT_CODES, FULL_OUTPUT

PROGRAM = "tinygrad-llm train"


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("train", __doc__)
    group = parser.add_argument_group("what to do")
    group.add_argument(
        "--resume", action="store_true", help="continue from the newest intact checkpoint in --out"
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="delete an earlier run in --out as soon as this one can begin; says what is deleted, "
        "and asks on a terminal",
    )
    add_yes(parser)
    group.add_argument(
        "--find-lr", action="store_true", help="try rising learning rates, suggest one, then exit"
    )
    group.add_argument(
        "--attention-map",
        metavar="TEXT",
        help="at the end draw attention.png: where each head looks while reading TEXT",
    )
    add_sources(parser)
    add_settings(parser)
    parser.exclude(
        "--resume", ["--overwrite"], "the one goes on with the run in --out, the other deletes it"
    )
    parser.exclude(
        "--find-lr",
        ["--resume", "--overwrite", "--attention-map"],
        "it tries learning rates on a new model and leaves the runs in --out alone",
    )
    return parser


def suggest_learning_rate(session: Session) -> int:
    """Search a learning rate for these settings; writes a picture if matplotlib is there."""
    text = session.load_text()
    model = session.load_model(text)
    found = find_learning_rate(make_trainer(session.config, text, model))
    say(f"Suggested: --learning-rate {found.suggestion:.1e}")
    if found.exploded_at is not None:
        say(f"From {found.exploded_at:.1e} on, the loss rose.")
    if session.config.plot:
        picture = Path(session.config.out) / "learning_rate.png"
        try:
            picture.parent.mkdir(parents=True, exist_ok=True)
            say(f"Wrote {one_line(draw_search(found, picture))}")
        except MissingDependencyError as error:
            say(f"(no picture: {error})")
    return 0


def draw_attention(model: Module, tokenizer: Tokenizer, text: str, target: Path) -> None:
    """A picture of the attention weights of every head on one text."""
    if not isinstance(model, GPT):
        raise ConfigError(f"--attention-map: {type(model).__name__} is no GPT. Leave the flag out.")
    ids = tokenizer.encode(text)[: model.config.context_length]
    figure = attention_maps(model, ids, [tokenizer.decode([i]) for i in ids])
    figure.savefig(target, dpi=110)
    say(f"Wrote {one_line(target)}")


def follow(session: Session, text: TokenText, world: Communicator) -> int:
    """Compute as one of several processes; rank 0 prints and writes."""
    model = session.load_model(text)
    make_trainer(session.config, text, model, None, session.state, world=world).fit()
    return 0


def train(session: Session, world: Communicator, attention_text: str | None = None) -> int:
    """Run the training that a session describes; returns the exit status."""
    config, folder = session.config, Path(session.config.out)
    say(f"Settings ({one_line(folder)}/config.toml):\n{describe(config)}\n")

    text = session.load_text()
    require_same_text(world, text)
    for needed_later in (config.prompt, attention_text or ""):
        text.tokenizer.encode(needed_later)
    if world.rank:
        return follow(session, text, world)
    levels = say_what_counting_achieves(text)
    model = session.load_model(text)
    vocabulary = f"vocabulary of {text.tokenizer.vocab_size:,} tokens"
    say(f"Model: {model.num_parameters():,} parameters, {vocabulary}.\n")

    callbacks = make_callbacks(config, text.tokenizer, levels, folder)
    trainer = make_trainer(config, text, model, session.run, session.state, callbacks, world=world)
    result = trainer.fit()

    if result.stopped_by == FULL_OUTPUT:
        raise OutputError(f"standard output: its disk is full. {session.what_is_saved()}")
    if result.stopped_by in (CLOSED_OUTPUT, "SIGHUP"):
        return EXIT_CODES[result.stopped_by]  # nobody is there to read more
    problem = try_loss_curve(folder, levels) if config.plot else None
    length = 2 * config.sample_tokens
    sample = try_sample(model, text.tokenizer, config.prompt, length, config.seed)
    say(f"\n--- the model writes ---\n{sample}\n---")
    say(summarize(result, folder, config.steps, levels))
    if problem:
        say(problem)
    if attention_text:
        draw_attention(model, text.tokenizer, attention_text, folder / "attention.png")
    return EXIT_CODES.get(result.stopped_by or "", 0)


def say_what_counting_achieves(text: TokenText) -> dict[str, float]:
    """Print what the text is and the losses of counting models; returns these."""
    measured = text.validation if len(text.validation) else text.train
    counted = counting_baselines(text.train, measured, text.tokenizer.vocab_size)
    say(f"Text: {one_line(text.described)}")
    say(
        f"Loss of a model that knows only token frequencies: {counted.unigram:.3f}; "
        f"of one that also knows the token before: {counted.bigram:.3f}."
    )
    return {"unigram entropy": counted.unigram, "bigram entropy": counted.bigram}


def run(world: Communicator, argv: Sequence[str] | None) -> int:
    """Parse the flags and train, on every rank of ``world``."""
    arguments = parse(build_parser(), argv)
    chosen = chosen_settings(arguments)
    if arguments.find_lr:
        if world.size > 1:
            raise ConfigError("--find-lr: runs on one process. Start it without mpiexec.")
        session = without_folder(chosen)
        with computing_as_said(session.config.dtype, session.config.device):
            return suggest_learning_rate(session)
    ask = partial(ask_before_deleting, yes=arguments.yes or world.size > 1)
    with open_together(world, chosen, arguments.resume, arguments.overwrite, ask) as session:
        try:
            world = with_gpus(world, session.config.device)
            with computing_as_said(session.config.dtype, session.config.device):
                return train(session, world, arguments.attention_map)
        except NumericsError as error:
            raise NumericsError(f"{error} {session.what_is_saved()}") from error
        except KeyboardInterrupt:
            raise KeyboardInterrupt(session.what_is_saved()) from None


def main(argv: Sequence[str] | None = None) -> int:
    """Train, alone or under mpiexec; an error becomes one sentence and status 2."""

    def whole() -> int:
        world = join_world()
        return run_together(world, PROGRAM, lambda: run(world, argv))

    return in_one_sentence(PROGRAM, whole)
