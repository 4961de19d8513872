"""The short names at the top of the package: types, constants, and methods as functions.

``tg.exp(x)`` is ``x.exp()``, and ``tg.float32`` is NumPy's ``np.dtype("float32")``: names that a
reader of PyTorch code expects. What a function computes stands in the op's file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinygrad_llm import functional
from tinygrad_llm.autograd import left_out
from tinygrad_llm.autograd.tensor import Tensor
from tinygrad_llm.backend.dtypes import as_dtype
from tinygrad_llm.errors import missing_name
from tinygrad_llm.functional.registered import as_function

TYPES = {
    "float16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
    "float32": "float32",
    "float": "float32",
    "float64": "float64",
    "double": "float64",
    "uint8": "uint8",
    "int8": "int8",
    "int16": "int16",
    "short": "int16",
    "int32": "int32",
    "int": "int32",
    "int64": "int64",
    "long": "int64",
    "bool": "bool",
}

CONSTANTS = {"inf": math.inf, "nan": math.nan, "pi": math.pi, "e": math.e, "dtype": np.dtype}

METHODS = (
    "abs",
    "add",
    "all",
    "allclose",
    "amax",
    "amin",
    "any",
    "argmax",
    "argmin",
    "argsort",
    "bmm",
    "ceil",
    "chunk",
    "clamp",
    "clip",
    "clone",
    "cos",
    "cumsum",
    "div",
    "eq",
    "equal",
    "erf",
    "exp",
    "flatten",
    "floor",
    "gather",
    "ge",
    "gelu",
    "gt",
    "index_select",
    "is_floating_point",
    "isfinite",
    "isinf",
    "isnan",
    "le",
    "log",
    "log_softmax",
    "logsumexp",
    "lt",
    "masked_fill",
    "matmul",
    "max",
    "maximum",
    "mean",
    "min",
    "minimum",
    "mm",
    "mul",
    "multinomial",
    "ne",
    "neg",
    "nonzero",
    "norm",
    "numel",
    "permute",
    "pow",
    "prod",
    "relu",
    "repeat_interleave",
    "reshape",
    "round",
    "rsqrt",
    "scatter",
    "scatter_add",
    "sigmoid",
    "sign",
    "sin",
    "softmax",
    "sort",
    "split",
    "sqrt",
    "square",
    "squeeze",
    "std",
    "sub",
    "sum",
    "swapaxes",
    "t",
    "tanh",
    "topk",
    "transpose",
    "tril",
    "triu",
    "unbind",
    "unflatten",
    "unsqueeze",
    "var",
)

FUNCTIONS = {
    "cat": functional.concatenate,
    "concat": functional.concatenate,
    "concatenate": functional.concatenate,
    "stack": functional.stack,
    "where": functional.where,
    "einsum": functional.einsum,
    "is_tensor": lambda x: isinstance(x, Tensor),
}

ALL = (*TYPES, *CONSTANTS, *FUNCTIONS, *METHODS)

# Names known from PyTorch -> what to write instead.
LEFT_OUT = {
    "FloatTensor": "tg.tensor(values)",
    "LongTensor": 'tg.tensor(values, dtype="int64")',
    "Size": "tuple, which x.shape is",
    "amp": 'model.to("bfloat16"): optimizers keep float32 masters of such weights',
    "asarray": "tg.as_tensor(values)",
    "autocast": 'model.to("bfloat16"): optimizers keep float32 masters of such weights',
    "backends": "report() of tinygrad_llm.commands.env, which says what is there",
    "column_stack": "tg.stack(tensors, axis=1)",
    "compile": "the model as it is: its hot ops are fused by hand, see tg.kernels",
    "complex64": "tg.float32: there are no complex numbers here",
    "cuda": 'x.to("cuda") and model.to("cuda")',
    "device": 'the name itself: device="cpu", "cuda" or "cuda:1"',
    "func": "loss.backward(), and x.grad",
    "get_default_dtype": "tg.float32, the type of Python's floats",
    "get_num_threads": "the environment variable OMP_NUM_THREADS",
    "get_rng_state": "tg.default_generator().state()",
    "grad": "loss.backward(), and x.grad",
    "hstack": "tg.cat(tensors, axis=1)",
    "hub": 'tg.nn.GPT.from_pretrained("gpt2")',
    "inference_mode": "tg.no_grad()",
    "initial_seed": "tg.manual_seed(number)",
    "jit": "the model as it is",
    "linalg": "x.norm(axis=...), or np.linalg on x.numpy() without gradients",
    "load": "tg.nn.GPT.from_pretrained(folder)",
    "logspace": "10 ** tg.linspace(start, end, steps)",
    "meshgrid": "a[:, None] and b[None, :], which broadcast",
    "save": "model.save_pretrained(folder)",
    "seed": "tg.manual_seed(number)",
    "set_default_dtype": "dtype= where a tensor is made, and model.to(dtype)",
    "set_grad_enabled": "tg.enable_grad() or tg.no_grad()",
    "set_num_threads": "the environment variable OMP_NUM_THREADS",
    "set_printoptions": "np.set_printoptions(...)",
    "set_rng_state": "tg.default_generator().set_state(state)",
    "sparse": "x[index], which takes the elements alone",
    "utils": "tg.data for loaders, tg.checkpoint for recomputing",
    "vmap": "a leading axis: every op takes batches",
    "vstack": "tg.cat(tensors, axis=0)",
}


def lookup(name: str) -> Any:
    """What ``tg.<name>`` is.

    Raises:
        AttributeError: nothing here; for a name of PyTorch's it says what to write instead.
    """
    if name in TYPES:
        return as_dtype(TYPES[name])
    if name in CONSTANTS:
        return CONSTANTS[name]
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if name in METHODS:
        return as_function(getattr(Tensor, name))
    raise missing_name("tg", name, {**left_out.LEFT_OUT, **LEFT_OUT}, ALL)
