"""The way to a GPU on a machine without one: Triton's compiler and launcher are real, libcuda and
CuPy are stand-ins that record what they are given."""

from __future__ import annotations

import json
import os
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import triton

HERE = Path(__file__).parent
pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc, as Triton does")


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory):
    """An environment in which libcuda.so.1 is fake_cuda.c."""
    folder = tmp_path_factory.mktemp("cuda")
    headers = Path(triton.__file__).parent / "backends" / "nvidia" / "include"
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-w",
            f"-I{headers}",
            str(HERE / "fake_cuda.c"),
            "-o",
            str(folder / "libcuda.so.1"),
        ],
        check=True,
    )
    return {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder),
        "TRITON_LIBCUDA_PATH": str(folder),
        "TRITON_CACHE_DIR": str(folder / "cache"),
        "PYTHONPATH": str(HERE.parents[1]),
        "TINYGRAD_LLM_KERNEL_CACHE": str(folder / "choices"),
    }


@pytest.fixture(scope="module")
def launched(stand_in):
    done = subprocess.run(
        [sys.executable, str(HERE / "launch_script.py")],
        env=stand_in,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


def test_the_thin_path_launches_what_triton_launches(launched):
    first, thin = launched["first"], launched["thin"]
    assert thin.pop("launches") == first.pop("launches") + 1
    assert first == thin
    assert first["parameters"] == [*launched["addresses"], 50, 96, 96, 0, 0]
    assert first["grid"] == [13, 1, 1]
    assert first["block"] == [32, 1, 1]
    assert first["stream"] == 0x5005


def test_what_triton_specializes_on_is_compiled_anew_and_nothing_else(launched):
    """As before; another size and address; a multiple of 16; 1; an odd address; float16."""
    assert launched["compiled"] == [1, 1, 1, 2, 3, 4, 5]


def test_arguments_that_are_none_or_one_are_left_out(launched):
    first, thin = launched["layer_norm"]
    assert first == thin
    assert first[:5] == launched["layer_norm_addresses"]
    assert first[5:8] == [50, 96, 96]
    assert struct.unpack("f", struct.pack("I", first[8]))[0] == pytest.approx(1e-5)


def test_launches_follow_the_current_stream(launched):
    assert launched["stream"] == 0xABC


def test_tensor_descriptors_reach_the_device_by_value(launched):
    """The maps as the device gets them, 128 bytes each; what is compiled anew; a later launch."""
    first, thin = launched["descriptor"]
    assert thin.pop("launches") == first.pop("launches") + 1
    assert first == thin
    source, target = first["parameters"][0], first["parameters"][9]
    assert [source[0], target[0]] == launched["descriptor_address"]
    assert source[2:11] == [64, 300, 3, 2, 0, 1152, 128, 345600, 0]  # sizes, strides in bytes
    assert target[2:4] == [64, 300]
    assert first["parameters"][1:9] == [2, 3, 300, 64, 172800, 64, 576, 1]  # in elements
    # another address and size; another block; another dtype
    assert launched["descriptor_compiled"] == [0, 1, 2]
    assert launched["descriptor_thin_again"][1:5] == [4, 5, 70, 64]
    assert launched["descriptor_thin_again"][0][2:6] == [64, 70, 5, 4]


def test_attention_grid(launched):
    block = launched["attention_config"]["BLOCK_M"]
    assert launched["attention"]["grid"][0] == -(-200 // block) * 3 * 2


def test_gradients_of_attention_in_one_pass(launched):
    """(launches, compiled anew) of three calls: rows, the pass itself, conversion of dQ."""
    assert launched["one_pass"] == [[3, 3], [3, 0], [3, 0]]


def test_mistakes_are_explained(launched):
    errors = launched["errors"]
    assert "the current CUDA device is 0, the arrays are on 0, 1" in errors["device"]
    assert "out is a NumPy array while the first argument is a CuPy array" in errors["numpy"]
    assert "an argument is a list" in errors["list"]


def test_timing_and_capture(launched):
    median, low, high = launched["bench"]
    assert 0 <= low <= median <= high
    assert launched["capture"] == ["begin", "end", "replay"]


def test_a_graph_takes_the_stream_of_one_that_is_gone(launched):
    """Libraries keep a workspace for each stream they have met."""
    assert launched["stream_again"]


def test_a_driver_that_refuses_strides_of_packed_heads_is_asked_once(launched):
    """Attention ran both times: through descriptors, then through pointers and the pair."""
    taken, refused, falling = launched["crossed"]
    assert taken is None
    assert "the driver takes only axes within each other (status 1)" in refused
    assert falling is None


def test_no_torch(launched):
    assert launched["torch"] is False


def test_host_time_is_reported(launched):
    """Figures for the log; no limit, since a loaded machine would break it."""
    print(launched["microseconds"])
    assert set(launched["microseconds"]) == {"launch", "softmax", "attention_backward", "triton"}
