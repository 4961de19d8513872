"""The calls made to NCCL, with a stand-in for CuPy: which addresses, counts and types it is given.

No GPU takes part. That NCCL then adds up is NCCL's; that we ask for the right thing is ours.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from tinygrad_llm.errors import DTypeError


class DeviceArray:
    """Looks like a CuPy array: elements from an address on."""

    def __init__(self, n, dtype, address=1000):
        self.size, self.dtype, self.address = n, dtype, address
        self.itemsize = 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize

    @property
    def nbytes(self):
        return self.size * self.itemsize

    @property
    def data(self):
        return SimpleNamespace(ptr=self.address)

    def __getitem__(self, key):
        start, stop, _ = key.indices(self.size)
        return DeviceArray(stop - start, self.dtype, self.address + start * self.itemsize)


class Events:
    """Streams and events that write down the order of what happens."""

    def __init__(self):
        self.order = []
        self.done_after = 3  # questions until an event is done
        outer = self

        class Event:
            asked = 0

            def record(self, stream=None):
                outer.order.append(f"record on {'computation' if stream is None else stream.name}")

            @property  # as in CuPy
            def done(self):
                self.asked += 1
                return self.asked >= outer.done_after

        class Stream:
            name, ptr = "nccl", 77

            def __init__(self, non_blocking=False, name="nccl"):
                self.name = name

            def wait_event(self, event):
                outer.order.append(f"{self.name} waits")

        self.cuda = SimpleNamespace(
            Event=Event, Stream=Stream, get_current_stream=lambda: Stream(name="computation")
        )


@pytest.fixture
def rank_1_of_2(monkeypatch):
    """An NcclCommunicator without MPI or GPU, its stand-ins, and the calls it makes."""
    from tinygrad_llm.distributed import nccl as module
    from tinygrad_llm.distributed.communicator import Traffic
    from tinygrad_llm.distributed.mpi import MpiCommunicator

    calls = []

    class Group:
        def __init__(self, size, unique_id, rank):
            calls.append(("init", size, unique_id, rank))

        def __getattr__(self, name):
            return lambda *arguments: calls.append((name, *arguments))

    library = ModuleType("nccl")
    library.NcclCommunicator = Group
    library.get_unique_id = lambda: pytest.fail("only rank 0 makes the id")
    library.groupStart = lambda: calls.append(("start",))
    library.groupEnd = lambda: calls.append(("end",))

    def join(self, comm=None, time_limit=None):
        self.rank, self.size, self.traffic, self.time_limit = 1, 2, Traffic(2), 5.0
        self.share = lambda value: [1, 2, 3]

    monkeypatch.setattr(MpiCommunicator, "__init__", join)
    events = Events()
    monkeypatch.setattr(module, "cuda_module", lambda: events)
    monkeypatch.setattr(module, "_nccl_of", lambda cupy: library)
    return module.NcclCommunicator(), calls, events


def test_ranks_meet_by_the_id_of_rank_0(rank_1_of_2):
    _, calls, _ = rank_1_of_2
    assert calls == [("init", 2, (1, 2, 3), 1)]


@pytest.mark.parametrize(
    ("dtype", "number"), [("float16", 6), ("float32", 7), ("float64", 8), ("bfloat16", 9)]
)
def test_all_reduce(rank_1_of_2, dtype, number):
    world, calls, events = rank_1_of_2
    work = world.all_reduce(DeviceArray(48, dtype))
    assert calls[1:] == [("allReduce", 1000, 1000, 48, number, 0, 77)]
    assert events.order == ["record on computation", "nccl waits", "record on nccl"]
    assert not work.test()
    work.wait()
    assert events.order[-1] == "computation waits"


def test_parts_go_to_their_owners_as_one_operation(rank_1_of_2):
    world, calls, _ = rank_1_of_2
    world.reduce_scatter(DeviceArray(48, "float32"), [0, 16, 48]).wait()
    assert calls[1:] == [
        ("start",),
        ("reduce", 1000, 1000, 16, 7, 0, 0, 77),
        ("reduce", 1064, 1064, 32, 7, 0, 1, 77),
        ("end",),
    ]


def test_gathering_moves_bytes_of_any_type(rank_1_of_2):
    world, calls, _ = rank_1_of_2
    world.all_gather(DeviceArray(48, "bfloat16"), [0, 16, 48]).wait()
    world.broadcast(DeviceArray(48, "bfloat16")).wait()
    assert calls[1:] == [
        ("start",),
        ("broadcast", 1000, 1000, 32, 1, 0, 77),
        ("broadcast", 1032, 1032, 64, 1, 1, 77),
        ("end",),
        ("broadcast", 1000, 1000, 96, 1, 0, 77),
    ]


def test_other_types_are_refused(rank_1_of_2):
    with pytest.raises(DTypeError, match="complex64 cannot be added"):
        rank_1_of_2[0].all_reduce(DeviceArray(4, "complex64"))


def test_waiting_for_a_dead_gpu_ends(rank_1_of_2, monkeypatch):
    from tinygrad_llm.errors import DistributedError

    world, _, events = rank_1_of_2
    events.done_after, world.time_limit = 10**9, 0.01
    world._who_is_missing = lambda: " for rank 0"
    with pytest.raises(DistributedError, match="all_reduce: rank 1 has waited for 0 s for rank 0"):
        world.all_reduce(DeviceArray(4, "float32")).wait()


@pytest.mark.parametrize(("device", "present"), [("cuda:0", 4), ("cuda", 1)])
def test_ranks_do_not_share_a_gpu(monkeypatch, device, present):
    from tinygrad_llm import backend
    from tinygrad_llm.distributed import with_gpus
    from tinygrad_llm.errors import DistributedError

    runtime = SimpleNamespace(getDeviceCount=lambda: present)
    fake = SimpleNamespace(cuda=SimpleNamespace(runtime=runtime, Device=nullcontext))
    monkeypatch.setattr(backend, "cuda_module", lambda: fake)
    world = SimpleNamespace(size=2, local_size=2, local_rank=1)
    with pytest.raises(DistributedError, match="need --device cuda and as many GPUs"):
        with_gpus(world, device)
    assert with_gpus(world, "cpu") is world
