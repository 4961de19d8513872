"""Every kernel as the training step of GPT-2 124M launches it: compiled, and looked at.

The launches come from the step itself, traced on arrays without numbers, so that a shape, a stride
or a type that only training has cannot be missed. Runs with whichever Triton is installed.
"""

from __future__ import annotations

import sys
import types
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tinygrad_llm.kernels import _runtime
from tinygrad_llm.kernels.machine_code import Access

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
CHIP = 90


@pytest.fixture(scope="module")
def benchmarks():
    """The folder of the benchmarks is on the path."""
    sys.path.insert(0, str(BENCHMARKS))
    yield
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def step_trace(benchmarks):
    import step_trace

    return step_trace


@pytest.fixture(scope="module")
def compiled(step_trace):
    """The captured training step with machine code; the table goes to the log."""
    found = step_trace.trace(32, chip=CHIP)
    print("\n" + step_trace.table(found))
    return found


def test_an_unknown_chip_is_refused(step_trace):
    with pytest.raises(ValueError, match="chip one of 80, 90, 100 .* got 32 and 70"):
        step_trace.trace(32, chip=70)


# ---------------------------------------------------------------- the machine code
def test_nothing_spills_and_everything_fits(compiled):
    wrong = [
        (launch.kernel, launch.code)
        for launch in compiled.launches
        if launch.code.spilled
        or not launch.code.programs
        or launch.code.shared > _runtime.SHARED_MEMORY[CHIP]
        or any(name.startswith(("LDL", "STL")) for name in launch.code.counts)
    ]
    assert not wrong


def test_memory_is_accessed_16_bytes_at_a_time(step_trace, compiled):
    narrow = [
        (launch.kernel, access, launch.arrays[access.parameter])
        for launch in compiled.launches
        for access in step_trace.too_narrow(launch)
    ]
    assert not narrow


def test_each_access_is_known_by_its_array(compiled):
    """The rule for widths would pass over an access whose array it cannot name."""
    for launch in compiled.launches:
        named = {a.parameter for a in launch.code.accesses if a.kind != "tensor"}
        assert named <= {*launch.arrays, "scratch"}, launch.kernel
        tiles = any(a.kind == "tensor" for a in launch.code.accesses)
        assert tiles == any(a.block for a in launch.arrays.values()), launch.kernel


def test_products_are_warpgroup_products(compiled):
    multiplying = [launch for launch in compiled.launches if launch.code.multiplies]
    assert {"attention_forward"} <= {m.kernel.removesuffix("_kernel") for m in multiplying}
    for launch in multiplying:
        units = Counter(name.partition(".")[0] for name in launch.code.counts)
        assert units["HGMMA"], launch.kernel
        assert not units["HMMA"], launch.kernel
        assert any(loop.products for loop in launch.code.loops), launch.kernel


# ---------------------------------------------------------------- the rule itself
def test_a_narrow_access_is_noticed(step_trace, compiled):
    """Rows of an odd number of elements at aligned addresses, as a vocabulary of 50257 has."""
    launch = next(x for x in compiled.launches if x.kernel == "cross_entropy_forward_kernel")
    loads = (Access("Logits", "load", 2, 17), Access("DLogits", "store", 2, 8))
    logits = step_trace.Array((8192, 50257), (50304, 1), "bfloat16", 512)
    arrays = {**launch.arguments, "Logits": logits, "DLogits": logits}
    odd = replace(launch, arguments=arrays, code=replace(launch.code, accesses=loads))
    assert step_trace.too_narrow(odd) == list(loads)
    unaligned = replace(logits, strides=(50257, 1))
    odd = replace(odd, arguments={**arrays, "Logits": unaligned, "DLogits": unaligned})
    assert step_trace.too_narrow(odd) == []


def test_what_may_be_narrow(step_trace, compiled):
    array = step_trace.Array
    rows = array((4096, 768), (768, 1), "bfloat16", 512)
    arguments = {
        "X": rows,
        "W": array((768,), (1,), "bfloat16", 512),
        "Mean": array((4096,), (1,), "float32", 512),
        "Wide": replace(rows, dtype="float32"),
    }

    def judged(*accesses):
        code = replace(compiled.launches[0].code, accesses=accesses)
        launch = replace(compiled.launches[0], arguments=arguments, code=code)
        return step_trace.too_narrow(launch)

    fine = [Access("Mean", "load", 4, 9), Access("X", "load", 8, 4), Access("Wide", "load", 16, 4)]
    assert judged(*fine) == []
    assert judged(Access("X", "load", 16, 4), Access("X", "load", 2, 1)) == []  # picks one out
    wrong = [Access("X", "load", 4, 8), Access("W", "load", 2, 8), Access("Wide", "store", 4, 1)]
    assert judged(*wrong) == wrong


# ---------------------------------------------------------------- the trace
def test_the_products_of_the_trace_are_those_of_the_model(step_trace, compiled):
    """Forward once and backward twice: 6 N (12 L C^2 + C V), the vocabulary perhaps rounded up."""
    flops = sum(product.flops * product.count for product in compiled.products)
    layers, c, n = 12, 768, 32 * 1024
    low, high = (6 * n * (12 * layers * c * c + c * v) for v in (50257, 50304))
    assert low <= flops <= high
    assert all(product.alignment >= 16 for product in compiled.products)


def test_each_block_launches_its_attention_once(compiled):
    forward = [x for x in compiled.launches if x.kernel.startswith("attention_forward")]
    assert sum(launch.count for launch in forward) == 12
    assert all(launch.options["CAUSAL"] for launch in forward)


def test_a_step_without_a_graph_launches_the_same_and_evaluation_a_part(step_trace, compiled):
    captured, plain, evaluation = (
        Counter({(x.kernel, str(x.arguments), str(x.options)): x.count for x in found.launches})
        for found in (compiled, step_trace.trace(32, "plain"), step_trace.trace(32, "evaluation"))
    )
    extra = {kernel for kernel, *_ in captured - plain}
    assert extra <= {"adamw_kernel"}  # whose rate and step a graph reads from the device
    forward = sum(
        count
        for (kernel, *_), count in evaluation.items()
        if kernel.startswith(("attention_forward", "layer_norm_forward"))
    )
    assert forward == 12 + 25
    assert not any("backward" in kernel for kernel, *_ in evaluation)


def test_sizes_are_those_of_the_batch(step_trace):
    found = step_trace.sizes(8)
    assert found["add_layer_norm"][0].arguments["x"].rows == 8 * 1024
    assert found["attention_qkv"][0].arguments["qkv"].shape == (8, 1024, 3 * 768)
    logits = found["cross_entropy_with_gradient"][0].arguments["logits"]
    assert (logits.stride, logits.dtype) == (50304, "bfloat16")


def test_a_step_that_fails_says_why(step_trace):
    with pytest.raises(RuntimeError, match="KeyError: 'backwards'"):
        step_trace.trace(32, "backwards")


# ---------------------------------------------------------------- arrays without numbers
OPERATIONS = {
    "view of a part": lambda xp, a, b: a[1:, ::2, None],
    "one element": lambda xp, a, b: a[1, 2, 3],
    "rows": lambda xp, a, b: a.reshape(-1, a.shape[-1]),
    "transposed and flat": lambda xp, a, b: a.transpose(1, 0, 2).reshape(5, -1),
    "heads": lambda xp, a, b: a.reshape(4, 5, 2, 4)[:, :, 1].swapaxes(1, 2),
    "types": lambda xp, a, b: (a * 2 + b.astype("float64")) / 3,
    "comparison": lambda xp, a, b: xp.where(a > b, a, 1),
    "sum": lambda xp, a, b: (a != 1).sum(axis=(0, -1), keepdims=True),
    "mean": lambda xp, a, b: b.mean(axis=1),
    "as integers": lambda xp, a, b: a.view("int32") ^ 5,
    "joined": lambda xp, a, b: xp.concatenate([a, b.astype("float32")], axis=0),
    "looked up": lambda xp, a, b: a[xp.arange(3)],
    "product": lambda xp, a, b: xp.matmul(a, a.swapaxes(1, 2)),
    "filled": lambda xp, a, b: xp.full((2, 3), 1.5, dtype=b.dtype),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_arrays_without_numbers_look_like_those_of_numpy(benchmarks, name):
    import shape_arrays

    shapeless = types.SimpleNamespace(**shape_arrays.functions())
    a, b = np.ones((4, 5, 8), np.float32), np.ones((4, 5, 8), np.float16)
    expected = np.asarray(OPERATIONS[name](np, a, b))
    found = OPERATIONS[name](shapeless, *map(shape_arrays._as_array, (a, b)))
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    assert found.strides == expected.strides


def test_views_share_addresses_and_new_arrays_begin_blocks(benchmarks):
    import shape_arrays

    a = shape_arrays._as_array(np.ones((4, 5, 8), np.float32))
    assert a[1, 2, 3].data.ptr == a.data.ptr + 4 * (1 * 40 + 2 * 8 + 3)
    assert (a + a).data.ptr % shape_arrays.BLOCK == 0
    with pytest.raises(NotImplementedError, match="cupy.sort"):
        shape_arrays.by_name("sort")
