"""Where the time of our training step on a GPU goes, op by op. For train_gpu.py."""

from __future__ import annotations

import time
from collections import defaultdict
from pathlib import Path

from gpu_model import Traffic, Work
from gpu_steps import gpt2, our_trainer
from harness import Report

from tinygrad_llm.autograd.engine import Arrived, Gradients, Node
from tinygrad_llm.autograd.function import Function, Result
from tinygrad_llm.autograd.modes import Observer


class EventTimes(Observer):
    """Milliseconds on the GPU per op of a step without a graph, forward and backward."""

    def __init__(self) -> None:
        import cupy

        self.cuda = cupy.cuda
        self.spans: list[tuple[str, object, object]] = []  # name, event before, event after

    def mark(self) -> object:
        """An event at this point of the stream."""
        return self.cuda.get_current_stream().record(self.cuda.Event())

    def before_forward(
        self, node: Function, arrays: tuple[object, ...], kwargs: dict[str, object]
    ) -> None:
        self.start = self.mark()

    def after_forward(self, node: Function, arrays: tuple[object, ...], out: Result) -> None:
        self.spans.append((f"{node.name} forward ({node.ran})", self.start, self.mark()))

    def before_backward(self, node: Node, dy: Arrived) -> None:
        self.start = self.mark()

    def after_backward(self, node: Node, dy: Arrived, grads: Gradients) -> None:
        ran = node.ran if isinstance(node, Function) else Function.ran
        self.spans.append((f"{node.name} backward ({ran})", self.start, self.mark()))

    def total(self) -> dict[str, float]:
        """Milliseconds by op, when the GPU is done."""
        self.cuda.runtime.deviceSynchronize()
        found: defaultdict[str, float] = defaultdict(float)
        for name, start, end in self.spans:
            found[name] += self.cuda.get_elapsed_time(start, end)
        return dict(found)


def breakdown(batch: int, folder: Path | None = None) -> None:
    """Print where a step's time goes and how near each op is to its floor; rows add up.

    Args:
        folder: gets breakdown.jsonl, a row with the milliseconds of each op.
    """
    import cupy

    trainer = our_trainer(gpt2(batch), graph=False)
    for _ in range(3):
        trainer.train_step()
    cupy.cuda.runtime.deviceSynchronize()
    start = time.perf_counter()
    with EventTimes() as times:
        trainer.train_step()
    step = 1e3 * (time.perf_counter() - start)
    parts = times.total()
    with Traffic(gpt2(batch).context, half=False) as traffic:  # in a step of its own: it takes time
        trainer.train_step()
    parts["clipping, AdamW, gradient sums, waiting for Python"] = step - sum(parts.values())
    print(f"\nOne step without a graph, B = {batch}: {step:.1f} ms")
    report = Report(folder and folder / "breakdown.jsonl")
    report.write({"op": "breakdown gpt2-124m", "batch": batch, "ms": step, "parts": parts})
    for name, ms in sorted(parts.items(), key=lambda part: -part[1]):
        work = traffic.work.get(name.partition(" (")[0], Work())
        ms = max(ms, 1e-6)  # an op that launches nothing
        rates = f"{work.bytes / ms / 1e6:8.0f} GB/s {work.flops / ms / 1e9:6.0f} TFLOP/s"
        print(f"  {name:55}{ms:9.2f} ms {ms / step:7.1%} {rates}")
