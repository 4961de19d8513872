"""``tinygrad-llm gradcheck``: every gradient proven in one table.

Three parts. First every op of the registry against finite differences, on all its samples, and
with each of its planted mistakes, which must be caught: wrong slopes, and gradients of another
shape, type and number. Then every parameter of a real small GPT: the same modules, tied weights,
dropout with a fixed seed, loss over chunks of rows. At the end one line and the exit status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tinygrad_llm import ops  # noqa: F401  (fills the registry)
from tinygrad_llm.autograd import Function, Tensor
from tinygrad_llm.autograd.gradcheck import RTOL, Report, gradcheck
from tinygrad_llm.autograd.registry import Op, Sample, planted, true_gradient
from tinygrad_llm.backend import Array, to_device
from tinygrad_llm.backend.dtypes import is_float
from tinygrad_llm.backend.random import default_generator, manual_seed

if TYPE_CHECKING:
    from tinygrad_llm.nn import GPT

Call = Callable[..., Tensor | tuple[Tensor, ...]]  # of an op, on Tensors
Gradients = tuple[Array | None, ...]


def _each(change: Callable[[Array], Array]) -> Callable[..., Gradients]:
    """A ``backward`` that changes each of the right gradients."""

    def wrong(ctx: Function, *dy: Array) -> Gradients:
        grads = true_gradient(ctx, *dy)
        grads = grads if isinstance(grads, tuple) else (grads,)
        return tuple(None if g is None else change(g) for g in grads)

    return wrong


def _one_too_many(ctx: Function, *dy: Array) -> Gradients:
    grads = true_gradient(ctx, *dy)
    return (*grads, None) if isinstance(grads, tuple) else (grads, None)


WRONG_FORMS = {  # mistakes that leave every number right, planted in each op
    "another shape": _each(lambda g: g[None]),
    "another type": _each(lambda g: g.astype(np.float32)),
    "one gradient too many": _one_too_many,
}


@dataclass
class OpProof:
    """What the check of one op showed.

    Attributes:
        name, family: of the op.
        samples: how many calls were checked.
        slopes: how many slopes were compared.
        error: worst relative error of all.
        planted, caught: how many wrong gradients were planted, and how many were caught.
    """

    name: str
    family: str
    samples: int
    slopes: int
    error: float
    planted: int
    caught: int

    @property
    def passed(self) -> bool:
        """All slopes agree, and every planted mistake was caught."""
        return self.error <= RTOL and self.caught == self.planted


def differentiable(s: Sample) -> dict[int, np.ndarray]:
    """Position -> array of the arguments that get a gradient."""
    return {
        i: a
        for i, a in enumerate(s.args)
        if isinstance(a, np.ndarray) and is_float(a.dtype) and i not in s.constant
    }


def differentiable_call(function: Call, s: Sample) -> tuple[Call, list[np.ndarray]]:
    """A sample as a function of its differentiable arguments alone, and those arguments."""
    places = differentiable(s)

    def run(*tensors: Tensor) -> Tensor | tuple[Tensor, ...]:
        args = list(s.args)
        for i, t in zip(places, tensors, strict=True):
            args[i] = t
        return function(*args, **s.kwargs)

    return run, list(places.values())


def results_of(run: Call, tensors: list[Tensor]) -> tuple[Tensor, ...]:
    """The results of a call, of which there may be several."""
    outs = run(*tensors)
    return outs if isinstance(outs, tuple) else (outs,)


def call_on(device: str, function: Call, s: Sample) -> tuple[Call, list[Array]]:
    """`differentiable_call` with the arguments on a device; the constants the op moves itself."""
    run, inputs = differentiable_call(function, s)
    return run, [to_device(x, device) for x in inputs]


def check_op(op: Op, seed: int = 0, device: str = "cpu") -> OpProof:
    """Check one op on all its samples, and its planted mistakes."""
    apply = op.function.apply
    planted = [*op.wrong.values(), *WRONG_FORMS.values()]
    reports = [
        gradcheck(*call_on(device, apply, s), raise_error=False)
        for s in op.samples(np.random.default_rng(seed))
    ]
    return OpProof(
        op.name,
        op.family,
        len(reports),
        sum(e.checked for r in reports for e in r.entries),
        max(r.error for r in reports),
        len(planted),
        sum(is_caught(op, wrong, seed, device) for wrong in planted),
    )


def is_caught(op: Op, wrong: Callable[..., object], seed: int = 0, device: str = "cpu") -> bool:
    """Whether any sample shows that this wrong ``backward`` is wrong."""
    broken = planted(op.function, wrong)
    return any(
        not gradcheck(*call_on(device, broken.apply, s), raise_error=False)
        for s in op.samples(np.random.default_rng(seed))
    )


def check_gpt(max_elements: int = 256, seed: int = 0, device: str = "cpu") -> Report:
    """Check every parameter of a small GPT: tied head, dropout on, two blocks.

    Args:
        max_elements: elements compared per parameter, besides the random directions.
        seed: of weights, ids and dropout.
        device: where the model is.
    """
    from tinygrad_llm.nn import GPT, GPTConfig

    before = default_generator().state()
    manual_seed(seed)
    config = GPTConfig(vocab_size=13, context_length=6, n_layer=2, n_head=2, n_embd=8, dropout=0.1)
    model = GPT(config)
    for _, p in model.named_parameters():  # GPT-2's 0.02 makes slopes too small to compare well
        p.data = p.data + default_generator().normal(p.shape, 0.2)
    model.to(device)
    rng = np.random.default_rng(seed)
    ids, targets = rng.integers(0, 13, (2, 2, 6))
    targets[0, 1] = -100
    loss = _Loss(model, ids, targets)
    try:
        return gradcheck(loss, [], max_elements=max_elements, raise_error=False)
    finally:
        default_generator().set_state(before)


class _Loss:
    """The loss of a model on one batch, with the model's parameters."""

    def __init__(self, model: GPT, ids: np.ndarray, targets: np.ndarray) -> None:
        self.model, self.ids, self.targets = model, ids, targets
        self.named_parameters = model.named_parameters

    def __call__(self) -> Tensor:
        return self.model.loss(self.ids, self.targets)


def op_lines(proofs: Iterable[OpProof]) -> Iterator[str]:
    """The table of the ops, each line as soon as its proof is there."""
    yield f"{'op':<29}{'family':<15}{'samples':>7}{'checked':>8}{'error':>9}{'caught':>7}"
    for p in proofs:
        row = f"{p.name:<29}{p.family:<15}{p.samples:>7}{p.slopes:>8}{p.error:>9.1e}"
        yield f"{row}{f'{p.caught}/{p.planted}':>7} {'pass' if p.passed else 'FAIL'}"
