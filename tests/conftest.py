"""For all tests: no deadline for drawn examples, and an end after an error of CUDA."""

import faulthandler
import os
import runpy
import sys
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import settings

settings.register_profile("no deadline", deadline=None)  # machines are busy
settings.load_profile("no deadline")

SECONDS_ON_GPU = 120  # for one test: a kernel that never ends cannot be interrupted


def pytest_runtest_setup(item):
    """A worker of pytest-xdist ends where a test on a GPU hangs."""
    if item.get_closest_marker("gpu") and "PYTEST_XDIST_WORKER" in os.environ:
        faulthandler.dump_traceback_later(SECONDS_ON_GPU, exit=True, file=sys.__stderr__)


def pytest_runtest_teardown(item):
    """After a test on a GPU, wait for what it launched; a broken device ends this process.

    An error of CUDA is final: every later call fails with it. Under pytest-xdist another worker
    takes the place of this one and goes on with the next test.
    """
    if item.get_closest_marker("gpu") is None:
        return
    faulthandler.cancel_dump_traceback_later()
    if "cupy" not in sys.modules:
        return
    runtime = sys.modules["cupy"].cuda.runtime
    try:
        runtime.deviceSynchronize()
    except runtime.CUDARuntimeError as error:
        reason = f"{item.nodeid}: {error}; the device is broken for this process"
        if "PYTEST_XDIST_WORKER" not in os.environ:
            pytest.exit(f"{reason}. Run the others with -n 1.", returncode=13)
        print(reason, file=sys.__stderr__, flush=True)
        os._exit(13)


@pytest.fixture
def packages_missing(monkeypatch):
    """As where the extra `fast` is not installed, and nobody has been told so yet."""
    from tinygrad_llm.backend import matrix_units, precision

    monkeypatch.setattr(matrix_units, "_capabilities", lambda: None)
    monkeypatch.delenv(matrix_units.VARIABLE, raising=False)
    monkeypatch.setattr(precision, "_told", False)
    matrix_units._found.cache_clear()
    yield
    matrix_units._found.cache_clear()


@pytest.fixture
def matrix_units_on(monkeypatch):
    """Products of bfloat16 wherever they can be computed, fast or not."""
    pytest.importorskip("numkong")
    pytest.importorskip("ml_dtypes")
    monkeypatch.setenv("TINYGRAD_LLM_MATRIX_UNITS", "on")


@pytest.fixture
def benchmarks(monkeypatch):
    """The folder of the benchmarks is on the path."""
    folder = str(Path(__file__).parents[1] / "benchmarks")
    monkeypatch.syspath_prepend(folder)
    yield
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", "")).startswith(folder):
            del sys.modules[name]


@pytest.fixture(scope="session")
def declared():
    """The arguments of setup() in setup.py."""
    with mock.patch("setuptools.setup") as setup:
        runpy.run_path(str(Path(__file__).parents[1] / "setup.py"))
    return setup.call_args.kwargs
