"""GPT-2 124M on one GPU: this project against PyTorch, eager and compiled. For bench_train.py.

    python benchmarks/bench_train.py --device cuda                  B = 16, 32, 64; T = 1024; bf16
    python benchmarks/bench_train.py --device cuda --quick          B = 32 alone, for ten minutes
    python benchmarks/bench_train.py --device cuda --breakdown      our step op by op

All contenders train on the same ids with bf16 matrix products, fused attention, clipping and fused
AdamW. Each measurement is a process; the contenders take turns. A step ends when its loss is on
the host.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from harness import machine
from train_sizes import BETAS, LR, MAX_NORM, WEIGHT_DECAY, Size, python_file

OURS, EAGER, COMPILED = "tinygrad_llm", "torch eager", "torch.compile"
CONTENDERS = (OURS, EAGER, COMPILED)
Step = Callable[[np.ndarray, np.ndarray], float]


def gpt2(batch: int) -> Size:
    """GPT-2 124M with full context."""
    return Size(12, 12, 768, 1024, batch, 50257, 20)


class OneBatch:
    """A loader that always gives what it was set to."""

    def __init__(self) -> None:
        self.batch: tuple[np.ndarray, ...] = ()

    def next_batch(self) -> tuple[np.ndarray, ...]:
        """The batch."""
        return self.batch

    def state(self) -> dict[str, Any]:
        """Nothing to remember."""
        return {}


def our_trainer(size: Size, dtype: str = "bfloat16", graph: bool = True) -> Any:
    """A trainer of this project on the GPU, and its loader."""
    import tinygrad_llm as tg
    from tinygrad_llm.training.loop_settings import LoopSettings
    from tinygrad_llm.training.on_gpu.captured import CapturedTrainer
    from tinygrad_llm.training.trainer import Trainer

    tg.manual_seed(0)
    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    model = tg.nn.GPT(config).to("cuda").to(dtype)
    optimizer = tg.optim.AdamW(model, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
    settings = LoopSettings(10**9, clip=MAX_NORM, eval_every=0)
    loader = OneBatch()
    loader.batch = size.batches(1)[0]
    return (CapturedTrainer if graph else Trainer)(model, optimizer, loader, settings)


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
        ids, wanted = (torch.from_numpy(a).pin_memory().cuda(non_blocking=True)
                       for a in (inputs, targets))  # fmt: skip
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", torch.bfloat16):
            loss = run(ids, wanted)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
        optimizer.step()
        return loss.item()

    return step


def peak_device_bytes(contender: str) -> int:
    """The most memory the process held on the GPU, as its own allocator counts."""
    if contender == OURS:
        import cupy

        free, total = cupy.cuda.runtime.memGetInfo()
        return total - free
    import torch

    return torch.cuda.max_memory_reserved()


def worker(contender: str, batch: int, steps: int) -> None:
    """One process: warm up, time, print one JSON line."""
    size = gpt2(batch)
    step = our_step(size) if contender == OURS else torch_step(size, contender == COMPILED)
    inputs, targets = size.batches(1)[0]
    losses = [step(inputs, targets) for _ in range(3)]
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        losses.append(step(inputs, targets))
        times.append(time.perf_counter() - start)
    print(json.dumps({"times": times, "losses": losses, "peak": peak_device_bytes(contender)}))


def run_once(contender: str, batch: int, steps: int) -> dict[str, Any]:
    """A worker's report, or {"problem": ...}."""
    command = [sys.executable, python_file("train_gpu.py"), contender, str(batch), str(steps)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["failed without a word"]
        return {"problem": lines[-1]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def compare(batch: int, rounds: int, results: Path) -> None:
    """All contenders on one batch size, in turns; prints and records the rows."""
    size = gpt2(batch)
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _ in range(rounds):
        for name, reports in found.items():
            if not any("problem" in r for r in reports):
                reports.append(run_once(name, batch, size.steps))
    print(f"\n{size.title}, bf16, one GPU")
    ours = _tokens_per_second(found[OURS], size)
    for name, reports in found.items():
        problem = next((r["problem"] for r in reports if "problem" in r), "")
        speed = _tokens_per_second(reports, size)
        if problem or speed is None:
            print(f"  {name:16}{problem}")
            continue
        row = _row(name, reports, size, speed, ours)
        print(
            f"  {name:16}{row['tokens_per_second']:>10,.0f} tokens/s  {row['ms']:>8.1f} ms  "
            f"MFU {row['mfu'] or 0:.1%}  {row['peak_gb']:>6.1f} GB  ours / this {row['ratio']:.2f}"
        )
        with open(results, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _tokens_per_second(reports: list[dict[str, Any]], size: Size) -> float | None:
    times = [t for r in reports for t in r.get("times", [])]
    return size.batch * size.context / median(times) if times else None


def _row(
    name: str, reports: list[dict[str, Any]], size: Size, speed: float, ours: float | None
) -> dict[str, Any]:
    import tinygrad_llm as tg
    from tinygrad_llm.training.on_gpu import chips

    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    return {
        "op": "train_step gpt2-124m", "contender": name, "batch": size.batch, "dtype": "bfloat16",
        "tokens_per_second": speed, "ms": 1e3 * size.batch * size.context / speed,
        "mfu": chips.utilization(speed, config, chips.peak_flops(chips.gpu_name())),
        "peak_gb": max(r["peak"] for r in reports) / 1e9,
        "ratio": (ours or 0.0) / speed, "first_loss": reports[0]["losses"][0],
        "last_loss": reports[0]["losses"][-1], **machine(),
    }  # fmt: skip


class EventTimes:
    """Milliseconds on the GPU per op of a step without a graph, forward and backward."""

    def __new__(cls) -> Any:
        import cupy

        from tinygrad_llm.autograd.modes import Observer

        class Times(Observer):
            def __init__(self) -> None:
                self.spans: list[tuple[str, Any, Any]] = []

            def mark(self) -> Any:
                return cupy.cuda.get_current_stream().record(cupy.cuda.Event())

            def before_forward(self, node: Any, arrays: Any, kwargs: Any) -> None:
                self.start = self.mark()

            def after_forward(self, node: Any, arrays: Any, out: Any) -> None:
                self.spans.append((f"{node.name} forward ({node.ran})", self.start, self.mark()))

            def before_backward(self, node: Any, dy: Any) -> None:
                self.start = self.mark()

            def after_backward(self, node: Any, dy: Any, grads: Any) -> None:
                self.spans.append((f"{node.name} backward ({node.ran})", self.start, self.mark()))

            def total(self) -> Counter[str]:
                cupy.cuda.runtime.deviceSynchronize()
                found: Counter[str] = Counter()
                for name, start, end in self.spans:
                    found[name] += cupy.cuda.get_elapsed_time(start, end)
                return found

        return Times()


def breakdown(batch: int) -> None:
    """Print where a step's time goes; the rows add up to the step."""
    import cupy

    trainer = our_trainer(gpt2(batch), graph=False)
    for _ in range(3):
        trainer.train_step()
    cupy.cuda.runtime.deviceSynchronize()
    start = time.perf_counter()
    with EventTimes() as times:
        trainer.train_step()
    parts = times.total()
    step = 1e3 * (time.perf_counter() - start)
    parts["clipping, AdamW, gradient sums, waiting for Python"] = step - sum(parts.values())
    print(f"\nOne step without a graph, B = {batch}: {step:.1f} ms")
    for name, ms in parts.most_common():
        print(f"  {name:55}{ms:9.2f} ms {ms / step:7.1%}")


def main(quick: bool, with_breakdown: bool, results: Path) -> None:
    """The table for one or three batch sizes; or the breakdown."""
    if with_breakdown:
        breakdown(32)
        return
    results.parent.mkdir(parents=True, exist_ok=True)
    for batch in (32,) if quick else (16, 32, 64):
        compare(batch, 1 if quick else 2, results)


if __name__ == "__main__":
    worker(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
