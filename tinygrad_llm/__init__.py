"""A GPT from tokenizer to chat on NumPy and CuPy, with nothing hidden.

    import tinygrad_llm as tg

    x = tg.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (x.exp() / x.exp().sum()).log()[2].backward()
    x.grad                                   # how the last log-probability depends on each logit

This project is not part of tinygrad. What needs more than NumPy is imported when it is first used.
"""

from __future__ import annotations

from tinygrad_llm import starting  # noqa: F401, first: it ends the imports below at Ctrl-C

# isort: split
import importlib
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING

from tinygrad_llm import errors, functional, names
from tinygrad_llm.autograd import (
    Function,
    Tensor,
    deterministic,
    enable_grad,
    is_grad_enabled,
    no_grad,
    prove,
    register,
    sample,
    tensor,
    use_kernels,
)
from tinygrad_llm.autograd.anomaly import detect_anomaly
from tinygrad_llm.autograd.checkpoint import checkpoint
from tinygrad_llm.autograd.gradcheck import gradcheck
from tinygrad_llm.backend.precision import (
    float32_matmul_precision,
    get_float32_matmul_precision,
    set_float32_matmul_precision,
)
from tinygrad_llm.backend.random import Generator, default_generator, manual_seed
from tinygrad_llm.backend.threads import num_threads as get_num_threads
from tinygrad_llm.backend.threads import set_num_threads
from tinygrad_llm.creation import (
    arange,
    as_tensor,
    empty,
    empty_like,
    eye,
    from_numpy,
    full,
    full_like,
    linspace,
    ones,
    ones_like,
    rand,
    rand_like,
    randint,
    randn,
    randn_like,
    randperm,
    zeros,
    zeros_like,
)

if TYPE_CHECKING:
    from tinygrad_llm import (
        data,
        explain,
        finetuning,
        generation,
        kernels,
        nn,
        optim,
        pretrained,
        tokenizers,
        training,
    )
    from tinygrad_llm.autograd.trace import trace
    from tinygrad_llm.explain.explorer.page import explore
    from tinygrad_llm.explain.graph.svg import graph
    from tinygrad_llm.generation.generate import generate
    from tinygrad_llm.names import *  # noqa: F403

__version__ = "0.2.0"

_SUBPACKAGES = (
    "backend",
    "data",
    "distributed",
    "explain",
    "finetuning",
    "generation",
    "kernels",
    "nn",
    "optim",
    "pretrained",
    "tokenizers",
    "training",
)
# name here -> (module, name there): imported when first asked for, to keep `import` short.
_LAZY = {
    "trace": ("tinygrad_llm.autograd.trace", "trace"),
    "generate": ("tinygrad_llm.generation.generate", "generate"),
    "explore": ("tinygrad_llm.explain.explorer.page", "explore"),
    "graph": ("tinygrad_llm.explain.graph.svg", "graph"),
}

__all__ = [
    "Function",
    "Generator",
    "Tensor",
    "arange",
    "as_tensor",
    "checkpoint",
    "data",
    "default_generator",
    "detect_anomaly",
    "deterministic",
    "empty",
    "empty_like",
    "enable_grad",
    "errors",
    "explain",
    "explore",
    "eye",
    "finetuning",
    "float32_matmul_precision",
    "from_numpy",
    "full",
    "full_like",
    "functional",
    "generate",
    "generation",
    "get_float32_matmul_precision",
    "get_num_threads",
    "gradcheck",
    "graph",
    "is_grad_enabled",
    "kernels",
    "linspace",
    "manual_seed",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "pretrained",
    "prove",
    "rand",
    "rand_like",
    "randint",
    "randn",
    "randn_like",
    "randperm",
    "register",
    "sample",
    "set_float32_matmul_precision",
    "set_num_threads",
    "tensor",
    "tokenizers",
    "trace",
    "training",
    "use_kernels",
    "zeros",
    "zeros_like",
]


if not TYPE_CHECKING:  # a type checker goes on finding misspelt names

    def __getattr__(name):
        if name in _SUBPACKAGES:
            return importlib.import_module(f"tinygrad_llm.{name}")
        if name in _LAZY:
            module, attribute = _LAZY[name]
            value = getattr(importlib.import_module(module), attribute)
            globals()[name] = value
            return value
        if name not in {*names.ALL, *names.LEFT_OUT} and not name.startswith("_"):
            for package in ("functional", "nn", "optim"):
                if name in _public(importlib.import_module(f"tinygrad_llm.{package}")):
                    raise AttributeError(
                        f"tg has no attribute {name!r}: it is tg.{package}.{name}."
                    )
        return names.lookup(name)


def _public(module: ModuleType) -> Iterable[str]:
    return dir(functional) if module is functional else module.__all__


def __dir__() -> list[str]:
    return sorted({*__all__, *_SUBPACKAGES, *names.ALL, "__version__"})
