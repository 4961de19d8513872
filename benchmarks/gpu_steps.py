"""One training step of GPT-2 124M on a GPU, by this project and by PyTorch. For train_gpu.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from harness import TINY
from train_sizes import BETAS, LR, MAX_NORM, WEIGHT_DECAY, Size, Step

if TYPE_CHECKING:
    from tinygrad_llm.training.trainer import Trainer


def gpt2(batch: int) -> Size:
    """GPT-2 124M with full context; where a stand-in plays the GPU, as little as will train."""
    if TINY:
        return Size(1, 2, 32, 8, batch // 16, 61, 5)
    return Size(12, 12, 768, 1024, batch, 50257, 20)


class OneBatch:
    """A loader that always gives what it was set to."""

    def __init__(self) -> None:
        self.batch: tuple[np.ndarray, ...] = ()

    def next_batch(self) -> tuple[np.ndarray, ...]:
        """The batch."""
        return self.batch

    def state(self) -> dict[str, object]:
        """Nothing to remember."""
        return {}

    def set_state(self, state: Mapping[str, object]) -> None:
        """Nothing to go on from."""


def our_trainer(size: Size, dtype: str = "bfloat16", graph: bool = True) -> Trainer:
    """A trainer of this project on the GPU, which is given the same batch in every step."""
    import tinygrad_llm as tg
    from tinygrad_llm.training.loop_settings import LoopSettings
    from tinygrad_llm.training.steps.captured import CapturedStep
    from tinygrad_llm.training.steps.prefetch import Prefetcher
    from tinygrad_llm.training.trainer import Trainer

    tg.manual_seed(0)
    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    model = tg.nn.GPT(config).to("cuda").to(dtype)
    optimizer = tg.optim.AdamW(model, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
    settings = LoopSettings(10**9, clip=MAX_NORM, eval_every=0)
    loader = OneBatch()
    loader.batch = size.batches(1)[0]
    if not graph:
        return Trainer(model, optimizer, loader, settings)
    return Trainer(model, optimizer, Prefetcher(loader), settings, stepper=CapturedStep())


def our_step(size: Size) -> Step:
    """One whole step of this project, replayed as a CUDA graph."""
    trainer = our_trainer(size)

    def step(inputs: np.ndarray, targets: np.ndarray) -> float:
        return trainer.train_step().loss

    return step


def torch_step(size: Size, compiled: bool) -> Step:
    """The same step in PyTorch as nanoGPT does it: autocast, fused AdamW, fused attention."""
    import torch
    from train_torch import GPT

    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")
    model = GPT(size).cuda()
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )

    def step(inputs: np.ndarray, targets: np.ndarray) -> float:
        ids, wanted = (
            torch.from_numpy(a).pin_memory().cuda(non_blocking=True) for a in (inputs, targets)
        )
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = run(ids, wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return loss.item()

    return step
