"""Sample texts written during training, to see what the model has learned so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinygrad_llm.control_characters import visible
from tinygrad_llm.errors import TinygradLLMError
from tinygrad_llm.generation.generate import generate
from tinygrad_llm.nn import Module
from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT
from tinygrad_llm.training.report.callback import Callback

if TYPE_CHECKING:
    from tinygrad_llm.training.report.progress_bar import ProgressBar
    from tinygrad_llm.training.trainer import StepReport, Trainer

END_MARK = "\n[end of text]\n"


def sample_text(
    model: Module,
    tokenizer: Tokenizer,
    prompt: str,
    n_tokens: int,
    seed: int,
    temperature: float = 0.8,
) -> str:
    """Text that the model writes after ``prompt``; the prompt is part of it.

    An empty prompt starts at ``<|endoftext|>``, or, without it, at a line break or token 0. Where
    the model ends a document and begins another, `END_MARK` stands.

    Raises:
        TokenizerError: the tokenizer cannot express the prompt.
    """
    ids = tokenizer.encode(prompt) if prompt else [start_id(tokenizer)]
    size = tokenizer.vocab_size
    out = generate(model, [ids], n_tokens, temperature, top_k=50, seed=seed, vocab_size=size)
    written = list(out[0])
    text = tokenizer.decode(written if prompt else written[1:])
    return text.replace(END_OF_TEXT, END_MARK)


def try_sample(model: Module, tokenizer: Tokenizer, prompt: str, n_tokens: int, seed: int) -> str:
    """`sample_text` for a report, or why there is none: the model is trained and saved as well."""
    try:
        return visible(sample_text(model, tokenizer, prompt, n_tokens, seed))
    except TinygradLLMError as error:
        return f"(no text: {error})"


def start_id(tokenizer: Tokenizer) -> int:
    """A token to begin with where there is no prompt."""
    if tokenizer.end_of_text_id is not None:
        return tokenizer.end_of_text_id
    breaks = [i for i in range(tokenizer.vocab_size) if tokenizer.token_bytes(i) == b"\n"]
    return breaks[0] if breaks else 0


class TextSamples(Callback):
    """Prints a sample every so many steps.

    The samples have their own random numbers: the run's bits do not depend on them.

    Args:
        tokenizer: of the model.
        every: steps between samples; 0 for none.
        n_tokens: length.
        prompt: how they begin.
        seed: of the sampling.
        bar: to print above.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        every: int,
        n_tokens: int,
        prompt: str,
        seed: int,
        bar: ProgressBar,
    ) -> None:
        self.tokenizer, self.every, self.n_tokens = tokenizer, every, n_tokens
        self.prompt, self.seed, self.bar = prompt, seed, bar

    def after_step(self, trainer: Trainer, report: StepReport) -> None:
        """Prints, when it is time."""
        if self.every and report.step % self.every == 0 and report.step < trainer.settings.steps:
            text = try_sample(
                trainer.model, self.tokenizer, self.prompt, self.n_tokens, self.seed + report.step
            )
            self.bar.print(f"--- the model at step {report.step} writes ---\n{text}\n---")
