"""The error function, which NumPy lacks."""

from __future__ import annotations

from tinygrad_llm.backend import Array, ArrayModule
from tinygrad_llm.backend.dtypes import accumulate_dtype

# W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of
# Computation 23 (1969): erf near 0, erfc in the middle, erfc in the tail. Highest power first.
_NEAR_NUMERATOR = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_NEAR_DENOMINATOR = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_MIDDLE_NUMERATOR = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_MIDDLE_DENOMINATOR = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_TAIL_NUMERATOR = (
    1.63153871373020978e-2,
    3.05326634961232344e-1,
    3.60344899949804439e-1,
    1.25781726111229246e-1,
    1.60837851487422766e-2,
    6.58749161529837803e-4,
)
_TAIL_DENOMINATOR = (
    1.0,
    2.56852019228982242e0,
    1.87295284992346725e0,
    5.27905102951428412e-1,
    6.05183413124413191e-2,
    2.33520497626869185e-3,
)
_NEAR, _MIDDLE, _ONE_OVER_SQRT_PI = 0.46875, 4.0, 5.6418958354775628695e-1


def erf(xp: ArrayModule, x: Array) -> Array:
    """2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x, to the precision of x's type."""
    if xp.__name__ == "cupy":
        from cupyx.scipy.special import erf as device_erf

        return device_erf(x).astype(x.dtype, copy=False)  # bfloat16 comes out as float32
    dtype, x = x.dtype, x.astype(accumulate_dtype(x.dtype), copy=False)
    size = xp.minimum(xp.abs(x), 30.0)  # erf is 1 long before; avoids an overflow of size**2
    inner = xp.minimum(size, _NEAR)
    near = xp.copysign(inner * _ratio(inner * inner, _NEAR_NUMERATOR, _NEAR_DENOMINATOR), x)
    middle = xp.maximum(size, _NEAR)
    far = xp.maximum(size, _MIDDLE)
    inverse = 1.0 / (far * far)
    tail = _ONE_OVER_SQRT_PI - inverse * _ratio(inverse, _TAIL_NUMERATOR, _TAIL_DENOMINATOR)
    complement = xp.where(
        size <= _MIDDLE, _ratio(middle, _MIDDLE_NUMERATOR, _MIDDLE_DENOMINATOR), tail / far
    )
    outer = xp.copysign(1.0 - xp.exp(-size * size) * complement, x)
    return xp.where(size <= _NEAR, near, outer).astype(dtype, copy=False)


def _ratio(x: Array, numerator: tuple[float, ...], denominator: tuple[float, ...]) -> Array:
    return _polynomial(x, numerator) / _polynomial(x, denominator)


def _polynomial(x: Array, coefficients: tuple[float, ...]) -> Array:
    """Horner's rule: ((c0 x + c1) x + c2) x + ..."""
    y = x * coefficients[0] + coefficients[1]
    for c in coefficients[2:]:
        y = y * x + c
    return y
