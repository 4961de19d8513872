"""Teach a GPT to answer instructions.

    tinygrad-llm finetune instructions                                # made-up set, offline
    tinygrad-llm finetune instructions --data instruction-data.json   # the book's 1,100
    tinygrad-llm finetune instructions --data instruction-data        # the same, downloaded
    tinygrad-llm finetune instructions --base gpt2 --trainable lora   # a real GPT-2, LoRA
    tinygrad-llm finetune instructions --resume                       # go on after Ctrl-C
    tinygrad-llm finetune instructions --score runs/assistant/responses.json
    tinygrad-llm chat runs/assistant                                  # talk to the result

Starts from the model of tinygrad-llm train if there is one, otherwise from a small model that is
pretrained on the spot. Prints the loss on held-out answers and the scores of written answers before
and after, shows ten of them, and draws the training curve.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from tinygrad_llm.backend.random import manual_seed
from tinygrad_llm.commands.finetune.session import (
    ASSISTANT_FILES,
    add_run,
    computed_as,
    run_tuning,
    tune_in_folder,
)
from tinygrad_llm.commands.flags import Parser, count, rate, seed, whole, within
from tinygrad_llm.commands.program import add_machine, command_parser
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.data import instructions
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import CHAT_SPECIAL_TOKENS, TEMPLATES, Template
from tinygrad_llm.errors import MissingDependencyError
from tinygrad_llm.finetuning import plots
from tinygrad_llm.finetuning.adapter import save_adapter
from tinygrad_llm.finetuning.base_model import (
    BaseModel,
    add_base,
    name_base,
    new_base,
    open_base,
    rate_for_width,
)
from tinygrad_llm.finetuning.conversation import save_assistant
from tinygrad_llm.finetuning.history import History
from tinygrad_llm.finetuning.instruction import (
    InstructionSet,
    encode_instructions,
    evaluate_instructions,
    fit_instructions,
)
from tinygrad_llm.finetuning.judge import Judge, mean_mark
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.progress import TuningBar
from tinygrad_llm.finetuning.responses import (
    Response,
    read_responses,
    respond,
    score_responses,
    show,
    write_responses,
)
from tinygrad_llm.finetuning.text_metrics import TextScores
from tinygrad_llm.finetuning.tuning_folder import TuningFolder, checksum_of_examples
from tinygrad_llm.hints import command
from tinygrad_llm.nn import apply_lora, remove_lora
from tinygrad_llm.terminal import say
from tinygrad_llm.training.run.folder import RunFolder

LORA_TARGETS = ("attention.qkv", "attention.projection", "expand", "project")
LEARNING_RATES = {"all": 1e-3, "lora": 4e-3}  # at width 128
ADAPTER, PICTURE = "adapter.safetensors", "training.png"
SHOWN = 10


def build_parser() -> Parser:
    """All flags."""
    parser = command_parser("finetune instructions", __doc__)
    add = parser.add_argument_group("data").add_argument
    text = "a .json file in Alpaca's form, or \"instruction-data\" to download the book's"
    add("--data", metavar="FILE", help=f"{text} (default: 100 made-up instructions)")
    add("--template", choices=sorted(TEMPLATES), default="chat", help="format (default: chat)")
    add("--system", metavar="TEXT", help="system prompt (default: the template's own)")
    ways, text = ("skip", "truncate", "error"), "what to do with examples longer than the context"
    add("--too-long", choices=ways, default="skip", help=f"{text} (default: skip)")
    add_base(parser)
    add_tuning(parser)
    add = parser.add_argument_group("evaluation").add_argument
    add("--answers", type=count, default=50, help="test questions to answer (default: 50)")
    add("--max-new-tokens", type=count, default=64, help="longest answer, in tokens (default: 64)")
    text = "a chat-completions endpoint that marks the answers, such as"
    add("--judge", metavar="URL", help=f"{text} http://localhost:11434/v1/chat/completions")
    add("--judge-model", default="llama3", help="the judge's model (default: llama3)")
    add("--score", metavar="FILE", help="only score the responses in a file")
    add_run(parser, "runs/assistant")
    add_machine(parser)
    return parser


def add_tuning(parser: argparse.ArgumentParser) -> None:
    """The flags of fine-tuning."""
    add = parser.add_argument_group("fine-tuning").add_argument
    add("--trainable", choices=("all", "lora"), default="all", help="weights (default: all)")
    add("--rank", type=count, default=8, help="rank of the LoRA matrices (default: 8)")
    add("--epochs", type=count, default=20, help="passes over the data, at most (default: 20)")
    text = "stop after so many epochs without a better validation loss; 0 never stops"
    add("--patience", type=whole(0), default=3, help=f"{text} (default: 3)")
    add("--batch-size", type=count, default=8, help="examples in a step (default: 8)")
    add("--learning-rate", type=rate, help="default: 1e-3 for a model 128 wide, less for wider")
    add(
        "--dropout", type=within(0, 0.99), default=0.1, help="dropout while training (default: 0.1)"
    )
    add("--packing", action="store_true", help="fill rows with several examples, not padding")
    add("--seed", type=seed, default=123, help="seed of split and order (default: 123)")


def make_base(
    arguments: argparse.Namespace, train: Sequence[Instruction], folder: TuningFolder
) -> BaseModel:
    """A new model; it reads the training part and the Python manual."""
    texts = [f"{e.instruction}\n{e.input}\n{e.output}" for e in train]
    run = folder.stage("base")
    return new_base(arguments, texts, "the instructions", CHAT_SPECIAL_TOKENS, run)


def tune(
    arguments: argparse.Namespace,
    base: BaseModel,
    train: InstructionSet,
    validation: InstructionSet,
    run: RunFolder,
) -> History:
    """Fine-tune the base model itself; LoRA's changes end up in the weights."""
    which = arguments.trainable
    if which == "lora":
        apply_lora(base.model, arguments.rank, targets=LORA_TARGETS)
    trained, whole = base.model.num_parameters(trainable_only=True), base.model.num_parameters()
    say(f"\nTraining {which}: {trained:,} of {whole:,} parameters ({trained / whole:.1%}).")
    settings = FitSettings(
        epochs=arguments.epochs,
        batch_size=arguments.batch_size,
        patience=arguments.patience,
        learning_rate=arguments.learning_rate
        or rate_for_width(LEARNING_RATES[which], base.model.config.n_embd),
        **computed_as(arguments),
    )
    bar = TuningBar()
    history = fit_instructions(
        base.model,
        train,
        validation,
        settings,
        arguments.packing,
        report=bar.print,
        run=run,
        callbacks=[bar],
    )
    say(
        f"({history.stopped_by or 'all epochs done'}; the weights of epoch "
        f"{history.column('epoch')[history.best]:.0f} are kept)"
    )
    if which == "lora":
        say(f"Adapter alone: {one_line(save_adapter(base.model, Path(arguments.out) / ADAPTER))}")
        remove_lora(base.model)
    return history


def answer(
    arguments: argparse.Namespace, base: BaseModel, template: Template, test: Sequence[Instruction]
) -> list[Response]:
    """The model's answers to test questions."""
    room = min(arguments.max_new_tokens, base.model.config.context_length // 2)
    chosen = test[: arguments.answers]
    say(f"Answering {len(chosen)} questions of the test set.", flush=True)
    return respond(base.model, base.tokenizer, template, chosen, room, system=arguments.system)


def format_table(rows: Sequence[tuple[str, float, TextScores]]) -> str:
    """Held-out loss and scores, one line per model."""
    head = f"{'':12}  test loss  exact match  token F1  ROUGE-L  well-formed  length / reference"
    lines = [
        f"{name:12}  {loss:9.4f}  {s.exact_match:11.1%}  {s.token_f1:8.3f}  {s.rouge_l:7.3f}  "
        f"{s.well_formed:11.1%}  {s.length_ratio:18.2f}"
        for name, loss, s in rows
    ]
    return "\n".join([head, "-" * len(head), *lines])


def judge(arguments: argparse.Namespace, responses: Sequence[Response]) -> None:
    """Ask the judge, if there is one."""
    if arguments.judge:
        marks = Judge(arguments.judge, arguments.judge_model).marks(responses)
        given = sum(m is not None for m in marks)
        say(f"The judge's mean mark: {mean_mark(marks):.1f} of 100 ({given} answers marked).")


def what_to_expect(n_parameters: int) -> str:
    """What a model of this size can and cannot do."""
    if n_parameters > 50_000_000:
        return "Answers are fluent; facts and sums in them are often wrong."
    return (
        f"What to expect of {n_parameters:,} parameters: it learns the form of an answer (to "
        "repeat the question's words, to end with a full stop, to stop) and sometimes the kind of "
        "task. It knows no facts and cannot do arithmetic. For answers that are often right, "
        "start from --base gpt2-medium or larger."
    )


def draw(history: History, out: Path) -> None:
    """The training curve, if matplotlib is there."""
    try:
        title = "Instruction tuning: loss per answer token"
        say(f"Curve: {one_line(plots.draw_history(history, out / PICTURE, title))}")
    except MissingDependencyError as error:
        say(f"(no picture: {error})")


def encode(
    arguments: argparse.Namespace,
    base: BaseModel,
    template: Template,
    parts: Sequence[Sequence[Instruction]],
) -> list[InstructionSet]:
    """Training, validation and test examples as tokens."""
    longest = base.model.config.context_length
    encoded = [
        encode_instructions(
            part, template, base.tokenizer, longest, arguments.too_long, arguments.system
        )
        for part in parts
    ]
    n_train, n_validation, n_test = (len(e.inputs) for e in encoded)
    say(
        f"Examples: {n_train} training, {n_validation} validation, {n_test} test; "
        f"{sum(e.skipped for e in encoded)} too long, left out."
    )
    return encoded


def score_file(arguments: argparse.Namespace, template: Template) -> int:
    """Score the responses in the file of ``--score``."""
    responses = read_responses(Path(arguments.score))
    say(score_responses(responses, template))
    judge(arguments, responses)
    return 0


def run(arguments: argparse.Namespace) -> int:
    """Score a file, or tune in the folder of ``--out``."""
    if arguments.score:
        return score_file(arguments, TEMPLATES[arguments.template])
    arguments.base = name_base(arguments.base)
    folder = tune_in_folder(arguments, [*ASSISTANT_FILES, ADAPTER, PICTURE], run_in)
    answers = one_line(folder / "responses.json")
    say(f"All answers: {answers}. Talk to it:\n  {command('chat', folder)}")
    return 0


def run_in(folder: TuningFolder, arguments: argparse.Namespace) -> None:
    """Pretrain or open, fine-tune, answer, score."""
    started, template = time.perf_counter(), TEMPLATES[arguments.template]
    manual_seed(arguments.seed)
    parts = instructions.split(instructions.load(arguments.data), seed=arguments.seed)
    is_new = arguments.base == "new"
    where = arguments.device, arguments.dtype
    opened = None if is_new else open_base(arguments.base, arguments.dropout, *where)
    folder.begin(checksum_of_examples(example for part in parts for example in part))
    base = opened or make_base(arguments, parts[0], folder)
    say(f"Base model: {one_line(base.origin)}, {base.model.num_parameters():,} parameters.")
    train, validation, test = encode(arguments, base, template, parts)
    rows = []
    for name in ("before", "after"):
        if name == "after":
            history = tune(arguments, base, train, validation, folder.stage("answers"))
        loss = evaluate_instructions(base.model, test)["loss"]
        responses = answer(arguments, base, template, parts[2])
        rows.append((name, loss, score_responses(responses, template)))
    save_assistant(folder.path, base.model, base.tokenizer, template)
    about = {"model": base.origin, "template": template.name, "test_loss": loss}
    write_responses(folder.path / "responses.json", responses, about)
    draw(history, folder.path)
    folder.finish()

    shown = responses[:SHOWN]
    say(f"\n{len(shown)} answers to questions from the test set:\n{show(shown)}\n")
    made_up = "" if arguments.data else " (made up: the scores mean little)"
    say(f"{len(test.inputs)} test examples, {len(responses)} answered{made_up}")
    say(format_table(rows))
    judge(arguments, responses)
    say(f"\n{what_to_expect(base.model.num_parameters())}")
    say(f"{time.perf_counter() - started:.0f} s in all. The model is in {one_line(folder.path)}.")


def main(argv: Sequence[str] | None = None) -> int:
    """Parse the flags and run; an error becomes one sentence and status 2."""
    return run_tuning(run, build_parser(), argv)
