"""Which libraries, and which of their instructions, computed the products of a step.

PyTorch chooses among MKL and oneDNN, product by product. Both can name each call as they make it
(MKL_VERBOSE, ONEDNN_VERBOSE), so one step is taken that way after the timed ones.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from threadpoolctl import threadpool_info

from tinygrad_llm.backend import matrix_units, precision

ONEDNN = re.compile(r"onednn_verbose,(?:v1,)?primitive,exec,cpu,(?:matmul|inner_product),([\w:]+)")
MKL_CALL = re.compile(r"MKL_VERBOSE (\w*GEMM\w*)\(")
MKL_PROCESSOR = re.compile(r"MKL_VERBOSE .* for Intel\(R\) 64 architecture (.*), \w+ [\d.]+GHz")


def blas_kernels() -> str:
    """Version and processor type of NumPy's BLAS; a warning where the environment chose it.

    OPENBLAS_CORETYPE makes OpenBLAS use the kernels of an older processor. That is set for older
    versions of it on machines they do not know, and halves the speed of a current one.
    """
    found = [
        f"{b['internal_api']} {b['version']}, {b.get('architecture', 'unknown')} kernels"
        for b in _blas()
    ]
    forced = os.environ.get("OPENBLAS_CORETYPE")
    warning = f" (forced by OPENBLAS_CORETYPE={forced}; unset it to compare)" if forced else ""
    return ("; ".join(found) or "not recognized") + warning


def of_ours() -> str:
    """What computes our products in the precision that is set in this process."""
    found = [f"{b['internal_api']} {b.get('architecture', '')}".strip() for b in _blas()]
    blas = found[0] if found else "NumPy's BLAS"
    units = matrix_units.found()
    if precision.rounds_operands():
        return f"numkong {units.instructions}; the rest {blas}"
    if precision.rounds_operands(few_rows=True):
        return f"numkong {units.few_rows} for few rows; the rest {blas}"
    return blas


def _blas() -> list[dict[str, Any]]:
    return [library for library in threadpool_info() if library["user_api"] == "blas"]


def of_torch(lines: Sequence[str], told: str) -> str:
    """What MKL and oneDNN said in the output of a process, and what the process says itself."""
    text = "\n".join(lines)
    mkl = " and ".join(sorted(set(MKL_CALL.findall(text))))
    processor = MKL_PROCESSOR.search(text)
    if mkl and processor:
        mkl += f" for {processor[1].replace('(R)', '')}"
    parts = [f"oneDNN {name}" for name in sorted(set(ONEDNN.findall(text)))]
    parts += [f"MKL {mkl}"] if mkl else []
    return "; ".join([*parts, told])
