"""The short names at the top of the package: types, constants, and methods as functions.

``tg.exp(x)`` is ``x.exp()``, and ``tg.float32`` is NumPy's ``np.dtype("float32")``: names that a
reader of PyTorch code expects. What a function computes stands in the op's file. Each name is
written out, so that an editor completes it and a type checker finds misspelt ones.
"""

from __future__ import annotations

import math as _math
from typing import Any as _Any

import numpy as _np

from tinygrad_llm import functional as _functional
from tinygrad_llm.autograd import left_out as _left_out
from tinygrad_llm.autograd.tensor import Tensor as _Tensor
from tinygrad_llm.backend.dtypes import as_dtype as _as_dtype
from tinygrad_llm.errors import missing_name as _missing_name
from tinygrad_llm.functional.registered import as_function as _of
from tinygrad_llm.functional.registered import is_tensor as is_tensor


def lookup(name: str) -> _Any:
    """What ``tg.<name>`` is.

    Raises:
        AttributeError: nothing here; for a name of PyTorch's it says what to write instead.
    """
    if name == "bfloat16":  # its package is imported when it is asked for
        return _as_dtype(name)
    if name in ALL:
        return globals()[name]
    raise _missing_name("tg", name, {**_left_out.LEFT_OUT, **LEFT_OUT}, ALL)


# Names known from PyTorch -> what to write instead.
LEFT_OUT = {
    "FloatTensor": "tg.tensor(values)",
    "LongTensor": 'tg.tensor(values, dtype="int64")',
    "Size": "tuple, which x.shape is",
    "amp": 'tg.set_float32_matmul_precision("medium") on a CPU, model.to("bfloat16") on a GPU',
    "asarray": "tg.as_tensor(values)",
    "autocast": 'tg.set_float32_matmul_precision("medium") on a CPU, model.to("bfloat16") on a GPU',
    "backends": "report() of tinygrad_llm.commands.env, which says what is there",
    "column_stack": "tg.stack(tensors, axis=1)",
    "compile": "the model as it is: its hot ops are fused by hand, see tg.kernels",
    "complex64": "tg.float32: there are no complex numbers here",
    "cuda": 'x.to("cuda") and model.to("cuda")',
    "device": 'the name itself: device="cpu", "cuda" or "cuda:1"',
    "func": "loss.backward(), and x.grad",
    "get_default_dtype": "tg.float32, the type of Python's floats",
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
    "set_printoptions": "np.set_printoptions(...)",
    "set_rng_state": "tg.default_generator().set_state(state)",
    "sparse": "x[index], which takes the elements alone",
    "utils": "tg.data for loaders, tg.checkpoint for recomputing",
    "vmap": "a leading axis: every op takes batches",
    "vstack": "tg.cat(tensors, axis=0)",
}

_NOT_SHORT = ("annotations", "lookup", "LEFT_OUT")

# Builtin names are given away from here on.

float16 = _np.dtype("float16")
half = _np.dtype("float16")
bfloat16: _np.dtype
float32 = _np.dtype("float32")
float = _np.dtype("float32")
float64 = _np.dtype("float64")
double = _np.dtype("float64")
uint8 = _np.dtype("uint8")
int8 = _np.dtype("int8")
int16 = _np.dtype("int16")
short = _np.dtype("int16")
int32 = _np.dtype("int32")
int = _np.dtype("int32")
int64 = _np.dtype("int64")
long = _np.dtype("int64")
bool = _np.dtype("bool")

dtype = _np.dtype
inf, nan, pi, e = _math.inf, _math.nan, _math.pi, _math.e

cat = concat = concatenate = _functional.concatenate
stack, where, einsum = _functional.stack, _functional.where, _functional.einsum

abs = _of(_Tensor.abs)
add = _of(_Tensor.add)
all = _of(_Tensor.all)
allclose = _of(_Tensor.allclose)
amax = _of(_Tensor.amax)
amin = _of(_Tensor.amin)
any = _of(_Tensor.any)
argmax = _of(_Tensor.argmax)
argmin = _of(_Tensor.argmin)
argsort = _of(_Tensor.argsort)
bmm = _of(_Tensor.bmm)
ceil = _of(_Tensor.ceil)
chunk = _of(_Tensor.chunk)
clamp = _of(_Tensor.clamp)
clip = _of(_Tensor.clip)
clone = _of(_Tensor.clone)
cos = _of(_Tensor.cos)
cumsum = _of(_Tensor.cumsum)
div = _of(_Tensor.div)
eq = _of(_Tensor.eq)
equal = _of(_Tensor.equal)
erf = _of(_Tensor.erf)
exp = _of(_Tensor.exp)
flatten = _of(_Tensor.flatten)
floor = _of(_Tensor.floor)
gather = _of(_Tensor.gather)
ge = _of(_Tensor.ge)
gelu = _of(_Tensor.gelu)
gt = _of(_Tensor.gt)
index_select = _of(_Tensor.index_select)
is_floating_point = _of(_Tensor.is_floating_point)
isfinite = _of(_Tensor.isfinite)
isinf = _of(_Tensor.isinf)
isnan = _of(_Tensor.isnan)
le = _of(_Tensor.le)
log = _of(_Tensor.log)
log_softmax = _of(_Tensor.log_softmax)
logsumexp = _of(_Tensor.logsumexp)
lt = _of(_Tensor.lt)
masked_fill = _of(_Tensor.masked_fill)
matmul = _of(_Tensor.matmul)
max = _of(_Tensor.max)
maximum = _of(_Tensor.maximum)
mean = _of(_Tensor.mean)
min = _of(_Tensor.min)
minimum = _of(_Tensor.minimum)
mm = _of(_Tensor.mm)
mul = _of(_Tensor.mul)
multinomial = _of(_Tensor.multinomial)
ne = _of(_Tensor.ne)
neg = _of(_Tensor.neg)
nonzero = _of(_Tensor.nonzero)
norm = _of(_Tensor.norm)
numel = _of(_Tensor.numel)
permute = _of(_Tensor.permute)
pow = _of(_Tensor.pow)
prod = _of(_Tensor.prod)
relu = _of(_Tensor.relu)
repeat_interleave = _of(_Tensor.repeat_interleave)
reshape = _of(_Tensor.reshape)
round = _of(_Tensor.round)
rsqrt = _of(_Tensor.rsqrt)
scatter = _of(_Tensor.scatter)
scatter_add = _of(_Tensor.scatter_add)
sigmoid = _of(_Tensor.sigmoid)
sign = _of(_Tensor.sign)
sin = _of(_Tensor.sin)
softmax = _of(_Tensor.softmax)
sort = _of(_Tensor.sort)
split = _of(_Tensor.split)
sqrt = _of(_Tensor.sqrt)
square = _of(_Tensor.square)
squeeze = _of(_Tensor.squeeze)
std = _of(_Tensor.std)
sub = _of(_Tensor.sub)
sum = _of(_Tensor.sum)
swapaxes = _of(_Tensor.swapaxes)
t = _of(_Tensor.t)
tanh = _of(_Tensor.tanh)
topk = _of(_Tensor.topk)
transpose = _of(_Tensor.transpose)
tril = _of(_Tensor.tril)
triu = _of(_Tensor.triu)
unbind = _of(_Tensor.unbind)
unflatten = _of(_Tensor.unflatten)
unsqueeze = _of(_Tensor.unsqueeze)
var = _of(_Tensor.var)

ALL = (
    *(name for name in globals() if not name.startswith("_") and name not in _NOT_SHORT),
    "bfloat16",
)
