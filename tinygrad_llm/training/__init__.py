"""Training: settings, the loop, checkpoints, logs, pictures.

trainer.py      the loop, every part a method        callbacks.py   what can be told about it
checkpoint.py   whole or absent, checked when read   run_folder.py  which ones are kept
config.py       every setting of a run               assemble.py    from settings to a trainer
evaluate.py     loss, perplexity, bits per byte      baselines.py   what counting achieves
log.py          what was computed, line by line      plot.py        pictures of it
"""

from tinygrad_llm.training.callbacks import Callback
from tinygrad_llm.training.config import TrainConfig
from tinygrad_llm.training.evaluate import Evaluation, Evaluator
from tinygrad_llm.training.loop_settings import LoopSettings, TrainingResult
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
