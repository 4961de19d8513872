"""The callbacks that the settings of a run ask for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tinygrad_llm.tokenizers import Tokenizer
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.report.histograms import Histograms
from tinygrad_llm.training.report.progress_bar import ProgressBar
from tinygrad_llm.training.report.samples import TextSamples
from tinygrad_llm.training.report.tensorboard import TensorBoard
from tinygrad_llm.training.settings.config import TrainConfig


def make_callbacks(
    config: TrainConfig, tokenizer: Tokenizer, levels: Mapping[str, float], folder: Path
) -> list[Callback]:
    """Progress bar and text samples; TensorBoard and histograms on request.

    Args:
        config: the settings.
        tokenizer: for the samples.
        levels: entropies to show beside the validation loss.
        folder: the run's.

    Raises:
        MissingDependencyError: something was asked for that needs a package that is missing.
    """
    bar = ProgressBar(levels, enabled=config.progress)
    callbacks: list[Callback] = [bar]
    if config.sample_every:
        callbacks.append(
            TextSamples(
                tokenizer,
                config.sample_every,
                config.sample_tokens,
                config.prompt,
                config.seed,
                bar,
            )
        )
    board = TensorBoard(folder) if config.tensorboard else None
    if config.histograms_every:
        callbacks.append(Histograms(folder, config.histograms_every, board))
    if board is not None:
        callbacks.insert(1, board)
    return callbacks
