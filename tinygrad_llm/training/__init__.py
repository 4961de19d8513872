"""Training: the loop, and four folders beside it.

Files and folders:

    trainer.py   the loop, every part a method       evaluate.py   loss, perplexity, bits per byte
    settings/    every setting, as flag, file, preset
    run/         the folder, checkpoints, how a run begins and goes on
    report/      callbacks, logs, bars, pictures
    steps/       other ways to compute a step: a CUDA graph, float16, several processes
"""

from tinygrad_llm.training.evaluate import Evaluation, Evaluator
from tinygrad_llm.training.loop_settings import LoopSettings, TrainingResult
from tinygrad_llm.training.report.callback import Callback
from tinygrad_llm.training.settings.config import TrainConfig
from tinygrad_llm.training.trainer import StepReport, Trainer

__all__ = [
    "Callback",
    "Evaluation",
    "Evaluator",
    "LoopSettings",
    "StepReport",
    "TrainConfig",
    "Trainer",
    "TrainingResult",
]
