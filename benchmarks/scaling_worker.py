"""One rank of bench_scaling.py: timed training steps; rank 0 prints its figures as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.distributed import Alone, Communicator, ShardedUpdate, join_world
from tinygrad_llm.distributed.buckets import GradientSum, Span
from tinygrad_llm.optim import AdamW, clip_grad_norm

VOCABULARY, CONTEXT, LAYERS, HEADS, WIDTH = 4096, 128, 6, 6, 384
T = TypeVar("T")


class Figures(TypedDict):
    """What rank 0 tells of one start."""

    seconds: list[float]  # of each step
    parameters: int
    sent_per_step: float  # bytes
    on_interface_per_step: float  # bytes
    state_bytes: int
    spans: list[tuple[str, float, float]]  # of the last step: name, start, stop


def interface_bytes(name: str = "lo") -> int:
    """Bytes that the system has received on a network interface."""
    lines = Path("/proc/net/dev").read_text(encoding="utf-8").splitlines()
    found = [line.split(":")[1].split()[0] for line in lines if line.strip().startswith(name + ":")]
    return int(found[0]) if found else 0


class Steps:
    """A GPT's training steps with the sums of `tinygrad_llm.distributed`.

    Args:
        world: ranks that sum; `Alone` makes each rank train for itself.
        batch: windows of this rank.
        shard: whether the optimizer's state is in parts.
        bucket_bytes: size of a bucket.
    """

    def __init__(self, world: Communicator, batch: int, shard: bool, bucket_bytes: int) -> None:
        tg.manual_seed(0)
        config = tg.nn.GPTConfig(VOCABULARY, CONTEXT, LAYERS, HEADS, WIDTH)
        self.model = tg.nn.GPT(config)
        self.optimizer = AdamW(self.model, lr=1e-4)
        self.world = world
        self.spans: list[Span] = []
        self.sums = GradientSum(self.optimizer, world, shard, bucket_bytes, keep_spans=True)
        self.sharded = ShardedUpdate(self.sums) if shard else None
        self.ids = np.random.default_rng(world.rank).integers(0, VOCABULARY, (batch, CONTEXT + 1))

    def __call__(self) -> None:
        """One step; leaves its spans behind."""
        self.spans, self.sums.spans = [], []
        self.optimizer.zero_grad()
        loss = self._timed("forward", lambda: self.model.loss(self.ids[:, :-1], self.ids[:, 1:]))
        self.sums.watch()
        seed = np.asarray(1 / self.world.size, np.float32)
        self._timed("backward", lambda: loss.backward(seed))
        self._timed("wait", self.sums.finish)
        self._timed("update", self._update)

    def _update(self) -> None:
        if self.sharded is None:
            clip_grad_norm(self.optimizer, 1.0)
            self.optimizer.step()
        else:
            self.sharded.clip(1.0)
            self.sharded.step()

    def _timed(self, name: str, task: Callable[[], T]) -> T:
        span = Span(name, time.perf_counter())
        result = task()
        span.stop = time.perf_counter()
        self.spans.append(span)
        return result


def main() -> None:
    """Arguments: a JSON table with batch, shard, silent, bucket_bytes, steps."""
    chosen = json.loads(sys.argv[1])
    everyone = join_world()
    world = Alone() if chosen["silent"] else everyone
    step = Steps(world, chosen["batch"], chosen["shard"], chosen["bucket_bytes"])
    for _ in range(3):
        step()
    times = []
    everyone.barrier()
    sent, on_wire = world.traffic.sent, interface_bytes()
    for _ in range(chosen["steps"]):
        everyone.barrier()
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    everyone.barrier()
    if everyone.rank == 0:
        n = chosen["steps"]
        state = (
            step.sharded.state_bytes()
            if step.sharded
            else sum(a.nbytes for b in step.optimizer.buffers for a in b.moments.values())
        )
        figures: Figures = {
            "seconds": times,
            "parameters": step.model.num_parameters(),
            "sent_per_step": (world.traffic.sent - sent) / n,
            "on_interface_per_step": (interface_bytes() - on_wire) / n,
            "state_bytes": state,
            "spans": [(s.name, s.start, s.stop) for s in [*step.spans, *step.sums.spans]],
        }
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
