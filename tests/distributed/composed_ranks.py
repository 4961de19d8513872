"""Run by mpiexec: captured and float16 steps of real ranks on the stand-in GPU, by MPI.

Each combination is compared with the plain steps of one process. Prints "ok" on rank 0.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

import tinygrad_llm as tg
from tests.finetuning.fitted import assert_same_run as assert_same_fit
from tests.finetuning.fitted import classify, instruct, prefer, replaying_gpu
from tests.finetuning.fitted import run as run_fit
from tests.replayed_gpu import gpu_with_kernels
from tests.stand_in_gpu import DeviceArray
from tests.training.composed import TOO_LARGE, assert_same_run, make_trainer, run
from tinygrad_llm.distributed import run_together
from tinygrad_llm.distributed.mpi import MpiCommunicator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.loader import BucketLoader
from tinygrad_llm.finetuning.loop import FitSettings, fit

# captured, dtype, shard, accumulate
COMBINATIONS = [
    (False, "float16", True, 1),
    (True, "float32", False, 2),
    (True, "float32", True, 1),
    (True, "float16", True, 2),
]
ROUNDING = {"float32": 1e-4, "float16": 5e-3}


def _host(x):
    return x.host if isinstance(x, DeviceArray) else x


class HostMemory(MpiCommunicator):
    """MPI on the memory behind the stand-in's arrays."""

    def _all_reduce(self, x):
        return super()._all_reduce(_host(x))

    def _reduce_scatter(self, x, bounds):
        return super()._reduce_scatter(_host(x), bounds)

    def _all_gather(self, x, bounds):
        return super()._all_gather(_host(x), bounds)

    def _broadcast(self, x):
        return super()._broadcast(_host(x))


def check_overflow(world):
    """What overflows on one rank is a step that all ranks skip."""
    trainer = make_trainer(True, "float16", world, scale=TOO_LARGE / 2**6)
    if world.rank == 1:
        trainer.model.final_norm.weight.data[0] = np.inf
    with np.errstate(over="ignore", invalid="ignore"):
        assert trainer.train_step().skipped
    assert trainer.precision.scale == TOO_LARGE / 2**7


def check_fine_tuning(world):
    """Ranks that share each batch of examples learn what one process does."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(11, 3)), rng.normal(size=(11, 1))

    def learn(communicator):
        tg.manual_seed(0)
        model = tg.nn.Linear(3, 1).to("float64")

        def batch_of(numbers, few_shapes):
            return x[numbers], y[numbers]

        def loss_of(batch):
            loss = ((model(tg.tensor(batch[0])) - batch[1]) ** 2).mean()
            return loss, loss * 1.0

        def evaluate():
            with tg.no_grad():
                return {"loss": ((model(tg.tensor(x)) - y) ** 2).mean().item()}

        settings = FitSettings(epochs=3, batch_size=4, learning_rate=0.1)
        parts = (batch_of, loss_of, evaluate)
        history = fit(model, [1] * 11, *parts, settings, communicator=communicator)
        return history, model.weight.numpy()

    (alone, expected), (shared, found) = learn(None), learn(world)
    np.testing.assert_allclose([loss for _, loss in shared.losses], [v for _, v in alone.losses])
    np.testing.assert_allclose(found, expected)
    with pytest.raises(ConfigError, match="leave one with 1, fewer than the 2 processes"):
        BucketLoader([1] * 9, 4, rank=world.rank, world_size=world.size)


def check_replayed_fine_tuning(world):
    """Ranks whose examples have other lengths than the others' replay graphs of other shapes."""
    with pytest.MonkeyPatch.context() as patches, replaying_gpu(patches) as recordings:
        for kind in (classify, instruct, prefer):
            expected, found = run_fit(kind, "cpu"), run_fit(kind, "cuda", world=world)
            assert recordings
            assert_same_fit(expected, found, ROUNDING["float32"])
        alone = run_fit(instruct, "cuda", "float16", graph=False)
        assert_same_fit(alone, run_fit(instruct, "cuda", "float16", world=world), 5e-2)


def main():
    world = HostMemory()

    def check():
        with pytest.MonkeyPatch.context() as patches, gpu_with_kernels(patches):
            for captured, dtype, shard, accumulate in COMBINATIONS:
                alone = run(False, dtype, accumulate=accumulate) if world.rank == 0 else None
                found = run(captured, dtype, world, shard, accumulate)
                if world.rank == 0:  # which has the whole state of the optimizer
                    assert_same_run(alone, found, ROUNDING[dtype])
                totals = world.collect([float(np.abs(w).sum()) for w in found[1]])
                assert totals[0] == totals[world.rank], "weights are the same on all ranks"
            check_overflow(world)
        check_fine_tuning(world)
        check_replayed_fine_tuning(world)
        return 0

    run_together(world, "composed_ranks.py", check)
    world.barrier()
    if world.rank == 0:
        print(f"ok on {world.size}")


main()
