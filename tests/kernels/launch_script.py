"""Run by test_launch_path.py in a process whose libcuda.so.1 is fake_cuda.c; prints JSON."""

from __future__ import annotations

import ctypes
import json
import sys
import time

import numpy as np
import triton
import triton.language as tl

from tests.kernels import fake_cupy

cupy = fake_cupy.install()

from tinygrad_llm.kernels import _descriptors, _runtime, layer_norm_kernel, softmax_kernel  # noqa: E402
from tinygrad_llm.kernels.attention_kernel.configs import forward_configs  # noqa: E402

from tinygrad_llm import kernels  # noqa: E402

driver = ctypes.CDLL("libcuda.so.1")


class Record(ctypes.Structure):
    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_ulonglong),
        ("launches", ctypes.c_ulonglong),
        ("parameters", (ctypes.c_ulonglong * 16) * 64),
    ]


driver.fake_last_launch.restype = ctypes.POINTER(Record)


def last(*parameter_bytes):
    """The last launch as a dictionary; a parameter of 128 bytes is a list of 16 numbers."""
    record = driver.fake_last_launch()[0]
    parameters = [
        words[0] if size <= 8 else list(words)
        for size, words in zip(parameter_bytes, record.parameters, strict=False)
    ]
    return {
        "grid": list(record.grid),
        "block": list(record.block),
        "stream": record.stream,
        "launches": record.launches,
        "parameters": parameters,
    }


def expect(*parameter_bytes):
    count = len(parameter_bytes)
    driver.fake_expect(count, (ctypes.c_int * count)(*parameter_bytes))


SOFTMAX = (8, 8, 4, 4, 4, 8, 8)  # X, Y, m, n, x_stride, two scratch pointers that Triton adds
out = {}

# the first launch goes through Triton, the second takes the thin path: the same to the device
expect(*SOFTMAX)
x, y = cupy.empty((50, 96)), cupy.empty((50, 96))
for name in ("first", "thin"):
    kernels.softmax(x, out=y)
    out[name] = last(*SOFTMAX)
out["addresses"] = [x.data.ptr, y.data.ptr]
out["compiled"] = [len(_runtime._compiled)]
expect()  # from here on only grids and counts are read

# what Triton specializes on is compiled anew, one difference at a time; nothing else is
flat, target = cupy.empty(50 * 96 + 1), cupy.empty(50 * 96)
half = cupy.empty(50 * 96, "float16")
for source, m in ((flat, 50), (flat[96:], 34), (flat, 48), (flat, 1), (flat[1:], 50), (half, 50)):
    kernels.launch(
        softmax_kernel.softmax_forward_kernel,
        (1,),
        source,
        target,
        m,
        96,
        96,
        ROWS=4,
        COLUMNS=128,
        num_warps=1,
    )
    out["compiled"].append(len(_runtime._compiled))

# a stream entered with `with`
with cupy.cuda.Stream(0xABC):
    kernels.softmax(x, out=y)
out["stream"] = last()["stream"]

# arguments that are None and sizes that are 1 leave the machine code: the same on both paths
LAYER_NORM = (8, 8, 8, 8, 8, 4, 4, 4, 4, 8, 8)  # X, W, Y, Mean, Rstd, m, n, x_stride, eps, scratch
expect(*LAYER_NORM)
weight = cupy.empty(96)
mean, rstd, normed = cupy.empty(50), cupy.empty(50), cupy.empty((50, 96))
out["layer_norm"] = []
for _ in range(2):
    kernels.launch(
        layer_norm_kernel.layer_norm_forward_kernel,
        (13,),
        x,
        None,
        None,
        weight,
        None,
        normed,
        mean,
        rstd,
        50,
        96,
        96,
        1,
        1e-5,
        ROWS=4,
        COLUMNS=128,
    )
    out["layer_norm"].append(last(*LAYER_NORM)["parameters"])
out["layer_norm_addresses"] = [a.data.ptr for a in (x, weight, normed, mean, rstd)]
expect()


# tensor descriptors: a map of 128 bytes by value, then sizes and strides, on both paths
@triton.jit
def add_blocks_kernel(X, Y, rows, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    start = tl.program_id(0) * ROWS
    block = X.load([1, 2, start, 0]).reshape(ROWS, COLUMNS)
    Y.atomic_add([tl.minimum(start, rows), 0], block.to(tl.float32))


def add_blocks(source, target, block=(1, 1, 64, 64)):
    blocks = kernels.Descriptor(source, block), kernels.Descriptor(target, (64, 64))
    kernels.launch(add_blocks_kernel, (3,), *blocks, 100, ROWS=64, COLUMNS=64)


DESCRIPTORS = (128, *[4] * 4, *[8] * 4, 128, *[4] * 2, *[8] * 2, 4, 8, 8)
expect(*DESCRIPTORS)
packed = cupy.empty((2, 300, 3, 3, 64), "float16")[:, :, 0].swapaxes(1, 2)  # (B, H, T, D)
target = cupy.empty((300, 64))
out["descriptor"] = []
for _ in range(2):
    add_blocks(packed, target)
    out["descriptor"].append(last(*DESCRIPTORS))
out["descriptor_address"] = [packed.data.ptr, target.data.ptr]
compiled = [len(_runtime._compiled)]
for source, block in (
    (cupy.empty((4, 5, 70, 64), "float16"), (1, 1, 64, 64)),
    (packed, (1, 2, 32, 64)),
    (cupy.empty((2, 3, 9, 64)), (1, 1, 64, 64)),
):
    add_blocks(source, target, block)
    compiled.append(len(_runtime._compiled))
out["descriptor_compiled"] = [n - compiled[0] for n in compiled[1:]]
add_blocks(cupy.empty((4, 5, 70, 64), "float16"), target)
out["descriptor_thin_again"] = last(*DESCRIPTORS)["parameters"]
expect()

# attention: what is specialized on and what is passed as a number
q = cupy.empty((2, 3, 200, 64), "float16")
kernels.attention(q, q, q, causal=True)
out["attention"] = last()
out["attention_config"] = forward_configs(q, q, q, False)[0]

# its gradients in one pass: rows, one pass, conversion; nothing is compiled anew the second time
o, lse = cupy.empty((2, 3, 200, 64), "float16"), cupy.empty((2, 3, 200))


def gradients():
    return kernels.attention_backward(o, q, q, q, o, lse, True)


out["one_pass"] = []
for _ in range(3):
    before = last()["launches"], len(_runtime._compiled)
    gradients()
    out["one_pass"].append([last()["launches"] - before[0], len(_runtime._compiled) - before[1]])

# heads of packed projections: strides that rise; a driver that refuses them is asked once
qkv = cupy.empty((2, 200, 3 * 192), "float16")
out["crossed"] = []
for refuse in (0, 1):
    driver.fake_refuse_crossed(refuse)
    _descriptors._answers.clear()
    attended, lse = kernels.attention_qkv(qkv, 3)
    kernels.attention_qkv_backward(attended, qkv, attended, lse, 3)
    heads = qkv.reshape(2, 200, 9, 64).transpose(0, 2, 1, 3)
    out["crossed"].append(_descriptors.why_no_descriptor(heads))
out["crossed"].append(_descriptors.why_no_descriptor(q))  # strides that fall


# errors
def message(call):
    try:
        call()
    except kernels.KernelError as error:
        return str(error)
    return "no error"


elsewhere = cupy.empty((50, 96))
elsewhere.data.device_id = 1
out["errors"] = {
    "device": message(lambda: kernels.softmax(elsewhere, out=y)),
    "numpy": message(lambda: kernels.softmax(x, out=np.zeros((50, 96), np.float32))),
    "list": message(lambda: kernels.launch(softmax_kernel.softmax_forward_kernel, (1,), x, [1])),
}

# timing, tuning and capture
out["bench"] = kernels.do_bench(lambda: kernels.softmax(x, out=y), warmup_ms=1, measure_ms=2)
graph = kernels.capture(lambda: kernels.softmax(x, out=y))
graph.replay()
out["capture"] = graph.stream.log[-3:]
used = graph.stream
del graph
out["stream_again"] = kernels.capture(lambda: kernels.softmax(x, out=y)).stream is used


# host time per launch, for the report only
def microseconds(call, repeats=3000):
    call()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        best = min(best, (time.perf_counter() - start) / repeats)
    return round(best * 1e6, 2)


kernel, grid = softmax_kernel.softmax_forward_kernel, (13,)
from tinygrad_llm.kernels._driver import Pointer  # noqa: E402

out["microseconds"] = {
    "launch": microseconds(
        lambda: kernels.launch(kernel, grid, x, y, 50, 96, 96, ROWS=4, COLUMNS=128, num_warps=4)
    ),
    "softmax": microseconds(lambda: kernels.softmax(x, out=y)),
    "attention_backward": microseconds(gradients, 300),
    "triton": microseconds(
        lambda: kernel[grid](
            Pointer(x),
            Pointer(y),
            50,
            96,
            96,
            ROWS=4,
            COLUMNS=128,
            num_warps=4,
            enable_fp_fusion=True,
        )
    ),
}
out["torch"] = "torch" in sys.modules
print(json.dumps(out))
