"""Sums of products over named axes, in Einstein's notation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinygrad_llm.autograd import Function, prove, register, sample, true_gradient
from tinygrad_llm.autograd.registry import Sample
from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype
from tinygrad_llm.backend.promotion import of_one_dtype
from tinygrad_llm.errors import ShapeError

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"  # stand in for the axes of an ellipsis


@register("einsum", family="linear algebra")
class Einsum(Function):
    """y[out] = sum of a[in_1] b[in_2] ... over the letters that out does not have

    Every term is a product, so the derivative with respect to one factor is the product of the
    others: again such a sum, in which dy takes the factor's place and the factor's letters are
    those that stay. For the matrix product "ij,jk->ik":

        da = einsum("ik,jk->ij", dy, b)          db = einsum("ik,ij->jk", dy, a)

    A letter that only this factor has was summed away: its gradient is the same all along.

    Shapes: one letter per axis; axes of one letter have one length.
    Source: Einstein, "Die Grundlage der allgemeinen Relativitaetstheorie", 1916, section 5.
    """

    fresh = True

    def forward(ctx, *xs: Array, equation: str) -> Array:
        ctx.inputs, ctx.output = parse(equation, xs)
        ctx.lengths = _lengths(equation, ctx.inputs, xs)
        ctx.dtypes = [x.dtype for x in xs]
        wanted = sum(ctx.needs)  # a factor stays if a gradient other than its own is wanted
        ctx.save(*(x if wanted > need else None for x, need in zip(xs, ctx.needs, strict=True)))
        return _einsum(ctx.xp, _written(ctx.inputs, ctx.output), of_one_dtype(xs))

    def backward(ctx, dy: Array) -> tuple[Array | None, ...]:
        return tuple(
            ctx.factor_gradient(i, dy) if need else None for i, need in enumerate(ctx.needs)
        )

    def factor_gradient(ctx, i: int, dy: Array) -> Array:
        """The gradient of factor ``i``: dy times the other factors."""
        mine = ctx.inputs[i]
        others = [s for j, s in enumerate(ctx.inputs) if j != i]
        found = [c for c in mine if c in ctx.output or any(c in s for s in others)]
        arrays = [dy, *(a for j, a in enumerate(ctx.saved) if j != i)]
        terms = _written([ctx.output, *others], "".join(found))
        grad = _einsum(ctx.xp, terms, of_one_dtype(arrays))
        kept = tuple(ctx.lengths[c] if c in found else 1 for c in mine)
        shape = tuple(ctx.lengths[c] for c in mine)  # of the factor
        return ctx.xp.broadcast_to(grad.reshape(kept), shape).astype(ctx.dtypes[i])


def _einsum(xp: ArrayModule, terms: str, xs: Sequence[Array]) -> Array:
    """The sum of products of arrays of one type; 16 bits are added up in float32."""
    dtype = xs[0].dtype
    xs = [x.astype(accumulate_dtype(dtype), copy=False) for x in xs]
    return xp.einsum(terms, *xs, optimize=len(xs) > 2).astype(dtype, copy=False)


def parse(equation: str, xs: Sequence[Array]) -> tuple[list[str], str]:
    """The letters of each operand and of the result, an ellipsis written out.

    Raises:
        ShapeError: another number of operands or axes than letters, a letter twice in one operand,
            or one in the result that no operand has.
    """
    left, arrow, output = equation.replace(" ", "").partition("->")
    inputs = left.split(",")
    if len(inputs) != len(xs):
        raise ShapeError(f"einsum: {equation!r} names {len(inputs)} operands, got {len(xs)}.")
    extra = [x.ndim - len(s) + 3 for s, x in zip(inputs, xs, strict=True) if "..." in s]
    longest = LETTERS[: max(extra, default=0)]
    inputs = [
        s.replace("...", longest[len(longest) - (x.ndim - len(s) + 3) :] if "..." in s else "")
        for s, x in zip(inputs, xs, strict=True)
    ]
    if not arrow:  # by default: the letters that occur once, in alphabetical order
        every = "".join(inputs)
        once = sorted(c for c in set(every) if every.count(c) == 1 and c not in longest)
        output = longest + "".join(once)
    output = output.replace("...", longest)
    for s, x in zip([*inputs, output], [*xs, None], strict=True):
        if len(set(s)) != len(s) or (x is not None and x.ndim != len(s)):
            raise ShapeError(
                f"einsum: {equation!r} needs one letter for each axis, none of them twice; got "
                f"{s!r} for {'the result' if x is None else f'shape {x.shape}'}."
            )
    if set(output) - set("".join(inputs)):
        raise ShapeError(f"einsum: {equation!r}: no operand has all letters of the result.")
    return inputs, output


def _lengths(equation: str, inputs: list[str], xs: Sequence[Array]) -> dict[str, int]:
    """Letter -> length of its axes."""
    lengths: dict[str, int] = {}
    for letters, x in zip(inputs, xs, strict=True):
        for c, n in zip(letters, x.shape, strict=True):
            if lengths.setdefault(c, n) != n:
                raise ShapeError(
                    f"einsum: {equation!r}: letter {c!r} stands for axes of lengths {lengths[c]} "
                    f"and {n}; shapes {[x.shape for x in xs]}."
                )
    return lengths


def _written(inputs: list[str], output: str) -> str:
    return f"{','.join(inputs)}->{output}"


def _products(rng: np.random.Generator) -> list[Sample]:
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    q, k = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 2, 4))
    return [
        sample(a, b, equation="ij,jk->ik"),
        sample(q, k, equation="btd,bsd->bts", label="scores"),
        sample(a, equation="ij->j", label="a sum"),
        sample(a, rng.normal(size=(3, 5)), equation="ij,jk->i", label="an axis summed away"),
        sample(q, b[:2, :].T, equation="...d,dk->...k", label="ellipsis"),
        sample(a, b, rng.normal(size=(4,)), equation="ij,jk,k->", label="three operands"),
    ]


def _others_forgotten(ctx: Einsum, dy: Array) -> tuple[Array | None, ...]:
    """Mistake: the rule of a sum, as if nothing were multiplied: ones for the other factors."""
    ctx.save(*(None if x is None else ctx.xp.ones_like(x) for x in ctx.saved))
    return true_gradient(ctx, dy)


def _shared_out(ctx: Einsum, dy: Array) -> tuple[Array | None, ...]:
    """Mistake: along an axis that was summed away, each element gets only its share of dy."""
    grads = []
    for letters, grad in zip(ctx.inputs, true_gradient(ctx, dy), strict=True):
        away = [c for c in letters if c not in ctx.output and "".join(ctx.inputs).count(c) == 1]
        grads.append(grad / math.prod(ctx.lengths[c] for c in away))
    return tuple(grads)


prove(
    "einsum",
    samples=_products,
    wrong={"other factors forgotten": _others_forgotten, "mean's rule": _shared_out},
)
