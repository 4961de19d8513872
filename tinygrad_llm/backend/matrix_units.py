"""Whether this processor multiplies bfloat16 faster than float32, and by which instructions.

A processor with matrix units (Intel's AMX, Arm's SME) computes a tile of a product at a time from
bfloat16 numbers and sums in float32: several times the rate of its float32 vectors. NumPy's BLAS
has no such product; the package ``numkong`` has. On a processor that has bfloat16 instructions for
its vectors only (AVX512-BF16 of AMD's Zen 4 and 5), large products are slower than float32's, and
are left alone. A product of few rows, as in decoding, waits for memory: there half the bytes count.

``TINYGRAD_LLM_MATRIX_UNITS`` is ``auto``, ``off``, or ``on`` (wherever ``numkong`` is installed,
fast or not: to try it on a processor that is not in the list below).
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import NamedTuple

from tinygrad_llm.errors import ConfigError
from tinygrad_llm.hints import install

VARIABLE = "TINYGRAD_LLM_MATRIX_UNITS"
# numkong's name -> what it stands for; in the order in which they are looked for.
FAST = {
    "graniteamx": "AMX (matrix units, Granite Rapids)",
    "sapphireamx": "AMX (matrix units)",
    "smebf16": "SME (matrix units)",
}
FAST_FOR_FEW_ROWS = {"turin": "AVX512-BF16 (vectors of 512 bits, Zen 5)"}
SLOW = {
    "genoa": "AVX512-BF16",
    "svebfdot": "SVE's dot products",
    "neonbfdot": "NEON's dot products",
}


class MatrixUnits(NamedTuple):
    """What multiplies bfloat16 on this processor.

    Attributes:
        instructions: such as ``"AMX (matrix units)"``; None where products stay float32.
        why_not: a sentence that says why, and what to do; "" where they do not.
        few_rows: the instructions for few rows times a weight that is kept; None for float32.
    """

    instructions: str | None
    why_not: str
    few_rows: str | None


def found() -> MatrixUnits:
    """What is used for products of bfloat16 on this machine.

    Raises:
        ConfigError: TINYGRAD_LLM_MATRIX_UNITS is none of ``auto``, ``on`` and ``off``.
    """
    wanted = os.environ.get(VARIABLE, "") or "auto"
    if wanted not in ("auto", "on", "off"):
        raise ConfigError(f"{VARIABLE}: expected auto, on or off, got {wanted!r}.")
    return _found(wanted)


def capabilities() -> list[str] | None:
    """What the processor has for bfloat16, whether it is used or not; None if that is not known."""
    here = _capabilities()
    if here is None:
        return None
    texts = [text for name, text in (FAST | FAST_FOR_FEW_ROWS | SLOW).items() if name in here]
    return [text for text in texts if not any(t != text and t.startswith(text) for t in texts)]


@lru_cache(maxsize=4)
def _found(wanted: str) -> MatrixUnits:
    if wanted == "off":
        return MatrixUnits(None, f"{VARIABLE} is off, so products are computed in float32.", None)
    here = _capabilities()
    if here is None:
        return MatrixUnits(
            None,
            "Products are computed in float32: multiplying bfloat16 needs the packages numkong "
            f"and ml_dtypes. On a processor with matrix units (AMX, SME): {install('fast')}",
            None,
        )
    fast, vectors, slow = (
        [text for name, text in kind.items() if name in here]
        for kind in (FAST, FAST_FOR_FEW_ROWS, SLOW)
    )
    if fast or wanted == "on":
        taken = (fast or vectors or slow or ["plain instructions"])[0]
        return MatrixUnits(taken, "", taken)
    why_not = (
        "Products are computed in float32: this processor has no matrix units for bfloat16 "
        "(AMX, SME)."
    )
    if vectors:
        why_not += f" By {vectors[0]} only generated tokens are faster, which read half the bytes."
    elif slow:
        why_not += f" It has {slow[0]}, whose products are slower than those of float32."
    return MatrixUnits(None, why_not, vectors[0] if vectors else None)


@lru_cache(maxsize=1)
def _capabilities() -> frozenset[str] | None:
    """numkong's names of what the processor has; None where a package is missing."""
    try:
        import ml_dtypes  # noqa: F401
        import numkong
    except ImportError:
        return None
    return frozenset(name for name, there in numkong.get_capabilities().items() if there)
