"""One process of bench_train.py: this project's training step, with --bf16 from bfloat16."""

from __future__ import annotations

import sys

import numpy as np
from train_instructions import of_ours
from train_sizes import BETAS, LR, MAX_NORM, SIZES, WEIGHT_DECAY, Size, Step, time_steps

import tinygrad_llm as tg


def make_step(size: Size) -> Step:
    """A function (inputs, targets) -> loss that does one whole step."""
    tg.manual_seed(0)
    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    model = tg.nn.GPT(config)
    optimizer = tg.optim.AdamW(model, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)

    def step(inputs: np.ndarray, targets: np.ndarray) -> float:
        optimizer.zero_grad()
        loss = model.loss(inputs, targets)
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, MAX_NORM)
        optimizer.step()
        return loss.item()

    return step


if __name__ == "__main__":
    chosen = SIZES[sys.argv[1]]
    if "--bf16" in sys.argv:
        tg.set_float32_matmul_precision("medium")
    time_steps(chosen, make_step(chosen), int(sys.argv[2]), of_ours())
