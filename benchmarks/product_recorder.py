"""Both of NVIDIA's libraries as step_recorder.py puts them in place: they note each product."""

from __future__ import annotations

import ctypes
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shape_arrays import BLOCK


class Recorder(Protocol):
    """What is told of each product."""

    def add(self, kind: str, **facts: object) -> None: ...


_TYPES = {0: "float32", 2: "float16", 14: "bfloat16"}


@dataclass
class Described:
    """A layout or a description of a product: with what it was made, and what was set on it."""

    values: tuple[int, ...] = ()
    attributes: dict[int, int] = field(default_factory=dict)


class Library:
    """Both libraries as seen from ctypes: functions by name, all of them successful."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.objects = [Described()]  # by handle; no object has handle 0
        self.functions: dict[str, Callable[..., int]] = {}

    def __getattr__(self, name: str) -> Callable[..., int]:
        if not name.startswith("cublas"):
            raise AttributeError(name)
        if name not in self.functions:
            known = getattr(self, "_" + name, None) or self._create_or_set(name)
            self.functions[name] = lambda *args: known(*args) or 0  # attributes can be set on it
        return self.functions[name]

    def _create_or_set(self, name: str) -> Callable[..., None]:
        if "Create" in name:
            return self._create
        return self._set if name.endswith("SetAttribute") else lambda *_: None

    def _create(self, place: int, *values: int) -> None:
        self.objects.append(Described(values))
        ctypes.c_void_p.from_address(place).value = len(self.objects) - 1

    def _set(self, target: int, attribute: int, address: int, size: int) -> None:
        value = int.from_bytes(ctypes.string_at(address, size), "little")
        self.objects[target].attributes[attribute] = value

    def _cublasLtMatmulAlgoGetHeuristic(self, *arguments: int) -> None:
        ctypes.c_int.from_address(arguments[-1]).value = 1

    def _cublasLtMatmul(
        self,
        handle: int,
        what: int,
        alpha: int,
        a: int,
        a_layout: int,
        b: int,
        b_layout: int,
        beta: int,
        c: int,
        c_layout: int,
        d: int,
        d_layout: int,
        *_: object,
    ) -> None:
        told = self.objects[what].attributes
        layouts = [self.objects[i].values for i in (a_layout, b_layout, d_layout)]
        kind, out = layouts[0][0], layouts[2]
        inner = layouts[0][1] if told.get(3) else layouts[0][2]
        # cuBLAS counts in columns: its A is our second factor, and it computes our C transposed
        self._product(
            "cublasLtMatmul",
            out[2],
            out[1],
            inner,
            told.get(4, 0),
            told.get(3, 0),
            kind,
            out[0],
            [layouts[1][3], layouts[0][3], out[3]],
            beta,
            1,
            told.get(7, 1),
            [b, a, d],
        )

    def _cublasGemmEx(self, *arguments: int) -> None:
        (_, second, first, n, m, k, _, b, kind, ldb, a, _, lda, beta, c, out, ldc, *_) = arguments
        self._product(
            "cublasGemmEx",
            m,
            n,
            k,
            first,
            second,
            kind,
            out,
            [lda, ldb, ldc],
            beta,
            1,
            1,
            [a, b, c],
        )

    def _cublasGemmStridedBatchedEx(self, *arguments: int) -> None:
        (
            _,
            second,
            first,
            n,
            m,
            k,
            _,
            b,
            kind,
            ldb,
            _,
            a,
            _,
            lda,
            _,
            beta,
            c,
            out,
            ldc,
            _,
            batch,
            *_,
        ) = arguments
        self._product(
            "cublasGemmStridedBatchedEx",
            m,
            n,
            k,
            first,
            second,
            kind,
            out,
            [lda, ldb, ldc],
            beta,
            batch,
            1,
            [a, b, c],
        )

    def _product(
        self,
        function: str,
        m: int,
        n: int,
        k: int,
        first: int,
        second: int,
        kind: int,
        out: int,
        strides: list[int],
        beta: int,
        batch: int,
        epilogue: int,
        addresses: list[int],
    ) -> None:
        self.recorder.add(
            "product",
            function=function,
            m=m,
            n=n,
            k=k,
            transpose_a=bool(first),
            transpose_b=bool(second),
            dtype=_TYPES[kind],
            out_dtype=_TYPES[out],
            strides=strides,
            accumulate=ctypes.c_float.from_address(beta).value != 0,
            batch=batch,
            epilogue=epilogue,
            alignment=min(min(x & -x for x in addresses), BLOCK),
        )


def cublas_recorded(recorder: Recorder) -> None:
    """``ctypes.CDLL`` gives the recording library; cuBLASLt needs no trial with numbers."""
    library, load = Library(recorder), ctypes.CDLL
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["cupy_backends.cuda.libs"].cublas = None  # type: ignore[attr-defined]
    ctypes.CDLL = lambda name, *args, **options: (  # type: ignore[assignment, misc]
        library if str(name).startswith("libcublas") else load(name, *args, **options)
    )
    from tinygrad_llm.kernels.products import epilogues

    epilogues._compare = lambda *types: ""
