"""One process of bench_train.py: the same step in PyTorch, written as nanoGPT writes it.

python benchmarks/train_torch.py SIZE STEPS [--compile] [--bf16 | --medium]
"""

from __future__ import annotations

import sys
from contextlib import ExitStack

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from train_sizes import BETAS, LR, MAX_NORM, SIZES, WEIGHT_DECAY, Size, Step, time_steps


class Block(nn.Module):
    """Pre-norm transformer block with PyTorch's fused attention."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        c = size.n_embd
        self.n_head = size.n_head
        self.norm1, self.norm2 = nn.LayerNorm(c), nn.LayerNorm(c)
        self.qkv, self.projection = nn.Linear(c, 3 * c), nn.Linear(c, c)
        self.expand, self.project = nn.Linear(c, 4 * c), nn.Linear(4 * c, c)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.n_head, c // self.n_head).transpose(1, 2)
            for part in self.qkv(self.norm1(x)).split(c, dim=2)
        )
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.projection(y.transpose(1, 2).reshape(b, t, c))
        return x + self.project(F.gelu(self.expand(self.norm2(x)), approximate="tanh"))


class GPT(nn.Module):
    """GPT-2 with a tied head."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.tokens = nn.Embedding(size.vocabulary, size.n_embd)
        self.positions = nn.Embedding(size.context, size.n_embd)
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.n_layer))
        self.norm = nn.LayerNorm(size.n_embd)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                deep = name.endswith(("projection.weight", "project.weight"))
                nn.init.normal_(p, std=0.02 / (2 * size.n_layer) ** 0.5 if deep else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.tokens.weight)
        return F.cross_entropy(logits.view(-1, logits.shape[-1]), targets.view(-1))


def make_step(size: Size, compiled: bool, bf16: bool = False) -> Step:
    """A function (inputs, targets) -> loss that does one whole step; bf16: under autocast."""
    torch.manual_seed(0)
    model = GPT(size)
    run = torch.compile(model) if compiled else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)

    def step(inputs: np.ndarray, targets: np.ndarray) -> float:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = run(torch.from_numpy(inputs), torch.from_numpy(targets))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return loss.item()

    return step


def name_the_products(size: Size, step: Step) -> None:
    """One step in which oneDNN and MKL print each of their calls; see train_instructions.py."""
    with ExitStack() as verbose:
        for library in (torch.backends.mkldnn, torch.backends.mkl):
            if library.is_available():
                verbose.enter_context(library.verbose(library.VERBOSE_ON))
        step(*size.batches(1)[0])


def main(size: Size, steps: int, options: list[str]) -> None:
    """Time the steps, then say what computed them."""
    if "--medium" in options:
        torch.set_float32_matmul_precision("medium")
    step = make_step(size, "--compile" in options, "--bf16" in options)
    time_steps(size, step, steps, f"ATen {torch.backends.cpu.get_cpu_capability()}")
    name_the_products(size, step)


if __name__ == "__main__":
    main(SIZES[sys.argv[1]], int(sys.argv[2]), sys.argv[3:])
