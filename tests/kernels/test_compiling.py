"""Every kernel compiled for three chips: no spills, shared memory within the chip's limit.

The kernels of attention take most of the time; float32 and float16 of everything are marked slow.
"""

from __future__ import annotations

import numpy as np
import pytest
from tinygrad_llm.kernels import catalog

from tinygrad_llm import kernels

CHIPS = (80, 90, 100)


def _check(rows, dtype):
    print("\n" + kernels.table(rows))
    misfits = [(name, r) for name, r in rows if not r.fits]
    assert not misfits, f"{dtype}: registers spill, or shared memory does not suffice: {misfits}"


@pytest.mark.parametrize("chip", CHIPS)
def test_no_kernel_spills_in_its_default_configuration(chip):
    rows = kernels.resource_table((chip,))
    _check(rows, "bfloat16")
    assert {r.chip for _, r in rows} == {chip}
    with_matrix_units = {r.name for _, r in rows if r.matrix_units}
    assert with_matrix_units == {"attention_forward_kernel", "attention_backward_keys_kernel",
                                 "attention_backward_queries_kernel"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("chip", CHIPS)
def test_other_dtypes(chip, dtype):
    """Attention in float32 is left out: it is there to compare with, and spills on some chips."""
    rows = kernels.resource_table((chip,), dtype)
    print("\n" + kernels.table(rows))
    _check([r for r in rows if dtype != "float32" or not r[0].startswith("attention D")], dtype)


def test_every_kernel_of_the_package_is_in_the_catalog():
    """A kernel that nobody compiles could spill unnoticed."""
    import importlib
    import pkgutil

    defined = set()
    for module in pkgutil.iter_modules(kernels.__path__):
        if module.name.endswith("_kernel") or module.name == "_common":
            found = vars(importlib.import_module(f"{kernels.__name__}.{module.name}"))
            defined |= {name for name, value in found.items()
                        if name.endswith("_kernel") and type(value).__name__ == "JITFunction"}
    compiled = set()
    for call in catalog.launches().values():
        with _names_only(compiled):
            call()
    assert defined - compiled == set()


class _names_only:
    """Launches are noted by name instead of compiled."""

    def __init__(self, names):
        self.names = names

    def __enter__(self):
        from tinygrad_llm.kernels import _runtime
        self.runtime = _runtime
        _runtime.compile_launch = lambda kernel, *rest: self.names.add(kernel.__name__)

    def __exit__(self, *error):
        self.runtime.compile_launch = None


def test_a_spill_is_noticed():
    """A tile too wide for the registers of one warp must show as stack."""
    from tinygrad_llm.kernels.softmax_kernel import softmax_forward_kernel
    x = np.zeros((4, 8192), np.float32)
    with kernels.compile_only(90) as compiled:
        kernels.launch(softmax_forward_kernel, (1,), x, x, 4, 8192, 8192, ROWS=1, COLUMNS=8192,
                       num_warps=1)
    row = kernels.resources(compiled[0])
    assert row.stack > 0
    assert not row.fits
    assert "does not fit" in kernels.table([("softmax", row)])


def test_unknown_chip():
    with pytest.raises(kernels.KernelError, match="unknown chip 70; known are 80,"):
        with kernels.compile_only(70):
            pass
