"""The same work by PyTorch, on the same memory, as peers of a benchmark; torch stands only here.

A peer is a function without arguments. Eager calls one operator at a time; compiled goes through
torch.compile; attention has one peer per backend of scaled_dot_product_attention. Like ours, peers
are timed as CUDA graphs where they can be recorded, so that Python's own time stays out of both.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from cases import Case
from tinygrad_llm.kernels.tuning import Prepared

from tinygrad_llm.backend import Array
from tinygrad_llm.hints import install

if TYPE_CHECKING:
    import torch

Inputs = dict[str, "torch.Tensor"]
Peer = Callable[[], object]


def available() -> str | None:
    """Why there are no peers, or None."""
    try:
        import torch
    except ImportError:
        return f"PyTorch is not installed. {install('bench')}"
    return None if torch.cuda.is_available() else "PyTorch sees no GPU"


def as_torch(array: Array) -> torch.Tensor:
    """A torch tensor over the memory of a CuPy array; bfloat16 travels as int16."""
    import torch

    if array.dtype.name == "bfloat16":
        return torch.from_dlpack(array.view("int16")).view(torch.bfloat16)
    return torch.from_dlpack(array)


def peers(case: Case) -> dict[str, Peer]:
    """Name -> function that does what the case's kernel does; empty where there is none."""
    builder = _BUILDERS.get(case.op)
    if builder is None:
        return {}
    inputs = {
        name: value if isinstance(value, (str, bool)) else as_torch(value)
        for name, value in case.inputs.items()
    }
    with _aside():
        return builder(inputs)


@functools.cache
def _side_stream() -> torch.cuda.Stream:
    import torch

    return torch.cuda.Stream()


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """On the stream that records: autograd runs a backward pass where its forward pass ran."""
    import torch

    stream = _side_stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        yield
    torch.cuda.current_stream().wait_stream(stream)


_not_recorded: list[
    torch.cuda.CUDAGraph
] = []  # graphs that PyTorch's allocator still asks, so that they must stay


def prepare(peer: Peer) -> Prepared:
    """A peer as it is timed: recorded as a CUDA graph, or called from Python and why."""
    import torch

    with _aside():
        for _ in range(3):  # compiles, and lets every library take its workspace
            peer()
    torch.cuda.synchronize()
    graph, before = torch.cuda.CUDAGraph(), torch.cuda.current_stream()
    try:
        with torch.cuda.graph(graph, stream=_side_stream()):
            peer()
    except RuntimeError as problem:
        torch.cuda.set_stream(before)  # else all that follows runs aside, where no event times it
        _not_recorded.append(graph)
        return Prepared(peer, None, f"Python: {str(problem).splitlines()[0]}")
    return Prepared(graph.replay, None, "graph")


@contextlib.contextmanager
def torch_driver() -> Iterator[None]:
    """torch.compile finds Triton as PyTorch left it; afterwards it runs through CuPy again."""
    import triton

    config = triton.runtime.driver
    before = config._active
    config.reset_active()
    try:
        yield
    finally:
        if before is not None:
            config.set_active(before)


def _eager_and_compiled(
    function: Callable[..., torch.Tensor], *arguments: torch.Tensor
) -> dict[str, Peer]:
    import torch

    compiled = torch.compile(function, dynamic=False)  # made for this shape alone

    def run_compiled() -> object:
        with torch_driver():
            return compiled(*arguments)

    return {"torch eager": lambda: function(*arguments), "torch compiled": run_compiled}


def _layer_norm(i: Inputs) -> dict[str, Peer]:
    from torch.nn.functional import layer_norm

    def function(x: torch.Tensor, w: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return layer_norm(x, x.shape[-1:], w, b)

    return _eager_and_compiled(function, i["x"], i["w"], i["b"])


def _layer_norm_backward(i: Inputs) -> dict[str, Peer]:
    import torch

    x, w, b = i["x"], i["w"], i["b"]
    _, mean, rstd = torch.ops.aten.native_layer_norm(x, x.shape[-1:], w, b, 1e-5)

    def function(
        dy: torch.Tensor,
        x: torch.Tensor,
        w: torch.Tensor,
        b: torch.Tensor,
        mean: torch.Tensor,
        rstd: torch.Tensor,
    ) -> torch.Tensor:
        return torch.ops.aten.native_layer_norm_backward(
            dy, x, x.shape[-1:], mean, rstd, w, b, [True, True, True]
        )

    return _eager_and_compiled(function, i["dy"], x, w, b, mean, rstd)


def _softmax(i: Inputs) -> dict[str, Peer]:
    import torch

    return _eager_and_compiled(lambda x: torch.softmax(x, -1), i["x"])


def _bias_gelu(i: Inputs) -> dict[str, Peer]:
    from torch.nn.functional import gelu

    return _eager_and_compiled(lambda x, b: gelu(x + b, approximate="tanh"), i["x"], i["b"])


def _bias_gelu_backward(i: Inputs) -> dict[str, Peer]:
    import torch

    def function(dy: torch.Tensor, x: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        dx = torch.ops.aten.gelu_backward(dy, x + b, approximate="tanh")
        return dx, dx.sum(0)

    return _eager_and_compiled(function, i["dy"], i["x"], i["b"])


def _dropout(i: Inputs) -> dict[str, Peer]:
    from torch.nn.functional import dropout

    return _eager_and_compiled(lambda x: dropout(x, 0.1), i["x"])


def _cross_entropy(i: Inputs) -> dict[str, Peer]:
    import torch
    from torch.nn.functional import cross_entropy

    logits = i["logits"].detach().requires_grad_()

    def eager(targets: torch.Tensor) -> torch.Tensor:
        loss = cross_entropy(logits, targets, reduction="sum")
        return torch.autograd.grad(loss, logits)[0]

    def by_hand(x: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        x = x.float()
        lse = torch.logsumexp(x, -1, keepdim=True)
        losses = lse - x.gather(-1, targets[:, None])
        gradient = torch.exp(x - lse)
        one = torch.arange(x.shape[-1], device=x.device)[None, :] == targets[:, None]
        return losses, (gradient - one.float()).to(logits.dtype)

    compiled = _eager_and_compiled(by_hand, i["logits"], i["targets"])["torch compiled"]
    return {"torch eager": lambda: eager(i["targets"]), "torch compiled": compiled}


def _embedding(i: Inputs) -> dict[str, Peer]:
    from torch.nn.functional import embedding

    return _eager_and_compiled(embedding, i["ids"], i["weight"])


def _adamw(i: Inputs) -> dict[str, Peer]:
    import torch

    parameter = torch.nn.Parameter(i["p"].clone())
    parameter.grad = i["g"].float()
    optimizer = torch.optim.AdamW([parameter], lr=1e-4, fused=True, capturable=True)
    return {"torch fused": optimizer.step}


def _clip_factor(i: Inputs) -> dict[str, Peer]:
    import torch

    return _eager_and_compiled(lambda x: torch.linalg.vector_norm(x, dtype=torch.float32), i["x"])


def _attention(i: Inputs, backward: bool = False) -> dict[str, Peer]:
    found = {}
    for name, backend in _backends().items():
        try:
            found[name] = _sdpa(backend, i, backward)
        except RuntimeError as problem:  # it refuses this shape in the forward pass
            print(f"  {name}: {str(problem).splitlines()[0]}")
    return found


def _backends() -> dict[str, torch.nn.attention.SDPBackend]:
    from torch.nn.attention import SDPBackend

    return {"torch flash": SDPBackend.FLASH_ATTENTION, "torch cudnn": SDPBackend.CUDNN_ATTENTION}


def _sdpa(backend: torch.nn.attention.SDPBackend, i: Inputs, backward: bool) -> Peer:
    import torch
    from torch.nn.attention import sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (i[name].detach().requires_grad_(backward) for name in "qkv")

    def forward() -> torch.Tensor:
        with sdpa_kernel(backend):
            return scaled_dot_product_attention(q, k, v, is_causal=i["causal"])

    if not backward:
        return forward
    y = forward()
    return lambda: torch.autograd.grad(y, (q, k, v), i["dy"], retain_graph=True)


def _product(i: Inputs) -> dict[str, Peer]:
    import torch

    x, weight, logits, dlogits = i["x"], i["weight"], i["logits"], i["dlogits"]
    calls = {
        "head_logits": lambda: torch.mm(x, weight.T, out=logits),
        "head_dx": lambda: torch.mm(dlogits, weight),
        "head_dw": lambda: torch.mm(dlogits.T, x),
    }
    return {"torch mm": calls[i["op"]]}


_BUILDERS: dict[str, Callable[[Inputs], dict[str, Peer]]] = {
    "layer_norm": _layer_norm,
    "layer_norm_backward": _layer_norm_backward,
    "softmax": _softmax,
    "bias_gelu": _bias_gelu,
    "bias_gelu_backward": _bias_gelu_backward,
    "dropout": _dropout,
    "cross_entropy": _cross_entropy,
    "embedding": _embedding,
    "adamw": _adamw,
    "clip_factor": _clip_factor,
    "attention": _attention,
    "attention_backward": functools.partial(_attention, backward=True),
    "attention_decode": _attention,
    "head_logits": _product,
    "head_dx": _product,
    "head_dw": _product,
}
