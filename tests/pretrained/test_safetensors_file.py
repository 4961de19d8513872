"""The safetensors reader and writer against the safetensors library and against damage."""

import json
import os

import ml_dtypes
import numpy as np
import pytest
from gpt2_oracle import safetensors_bytes
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.numpy import load, load_file, save

from tinygrad_llm import errors
from tinygrad_llm.pretrained import SafetensorsFile, write_safetensors

ARRAYS = {
    "half": np.arange(6, dtype=np.float16).reshape(2, 3),
    "one byte": np.array([True, False, True]),
    "wide": np.linspace(0, 1, 5),
    "counts": np.array([[1, -2]], dtype=np.int64),
    "scalar": np.array(2.5, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
}


def _equal(got, wanted):
    assert got.dtype == wanted.dtype
    assert np.array_equal(got, wanted)


def test_library_reads_what_we_write(tmp_path):
    write_safetensors(tmp_path / "a", ARRAYS, {"format": "pt"})
    read = load_file(tmp_path / "a")
    assert set(read) == set(ARRAYS)
    for name, array in ARRAYS.items():
        _equal(read[name], array)


def test_we_read_what_the_library_writes(tmp_path):
    (tmp_path / "a").write_bytes(save(ARRAYS, {"made by": "library"}))
    file = SafetensorsFile(tmp_path / "a")
    assert file.metadata == {"made by": "library"}
    assert set(file) == set(ARRAYS)
    for name, array in ARRAYS.items():
        assert file.shape(name) == array.shape
        _equal(file.read(name), array)
        file.release(name)
        _equal(file.read(name), array)


def test_transposed_and_strided_arrays_are_written_by_value(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    write_safetensors(tmp_path / "a", {"t": base.T, "s": base[::2, 1::2]})
    file = SafetensorsFile(tmp_path / "a")
    _equal(file.read("t"), base.T)
    _equal(file.read("s"), base[::2, 1::2])


def test_bfloat16_is_exact(tmp_path):
    values = np.array([1.0, -2.5, 3e38, 1e-40, np.inf], dtype=ml_dtypes.bfloat16)
    write_safetensors(tmp_path / "a", {"b": values})
    _equal(SafetensorsFile(tmp_path / "a").read("b"), values.astype(np.float32))


@pytest.mark.parametrize("length", [0, 3, 8, 20, -1])
def test_truncated_file(tmp_path, length):
    whole = safetensors_bytes({"x": np.ones((3, 3), np.float32)})
    (tmp_path / "a").write_bytes(whole[:length])
    with pytest.raises(errors.CheckpointError, match=r"a: .*(damaged|partly)"):
        SafetensorsFile(tmp_path / "a")


def test_bytes_after_the_end(tmp_path):
    (tmp_path / "a").write_bytes(safetensors_bytes({"x": np.ones(3, np.float32)}) + b"more")
    with pytest.raises(errors.CheckpointError, match="it has 86 bytes.*is damaged"):
        SafetensorsFile(tmp_path / "a")


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"x": 1},
        {"x": {**ENTRY, "shape": [3]}},
        {"x": {**ENTRY, "shape": [-2]}},
        {"x": {**ENTRY, "shape": "ab"}},
        {"x": {**ENTRY, "data_offsets": [8, 0]}},
        {"x": {**ENTRY, "data_offsets": [4, 12]}},
        {"x": {**ENTRY, "dtype": "F4"}},
        {"x": ENTRY, "y": ENTRY},
        {
            "x": {"dtype": "U8", "shape": [2], "data_offsets": [0, 2]},
            "y": {"dtype": "U8", "shape": [2], "data_offsets": [6, 8]},
        },
        {"__metadata__": 3, "x": ENTRY},
    ],
)
def test_headers_that_make_no_sense(tmp_path, header):
    text = json.dumps(header).encode()
    (tmp_path / "a").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))
    with pytest.raises(errors.CheckpointError):
        SafetensorsFile(tmp_path / "a")


@given(st.binary(max_size=60), st.integers(0, 150))
def test_random_damage_is_an_error_or_a_valid_file(tmp_path_factory, noise, position):
    whole = safetensors_bytes({"x": np.ones((3, 3), np.float32), "y": np.ones(2, np.float32)})
    damaged = whole[:position] + noise + whole[position + len(noise) :]
    path = tmp_path_factory.mktemp("damage") / "a"
    path.write_bytes(damaged)
    try:
        file = SafetensorsFile(path)
    except errors.CheckpointError:
        return
    for name in file:  # whatever still opens can be read to the end
        assert file.read(name).shape == file.shape(name)
    try:
        library = load(damaged)
    except SafetensorError:  # the library is stricter about names in the metadata
        return
    assert set(library) == set(file)


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    write_safetensors(tmp_path / "a", {"x": np.ones(3)})
    before = (tmp_path / "a").read_bytes()

    def full_disk(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(errors.CheckpointError, match="No space left"):
        write_safetensors(tmp_path / "a", {"x": np.zeros(1000)})
    assert (tmp_path / "a").read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_types_without_a_place(tmp_path):
    with pytest.raises(errors.CheckpointError, match="complex128"):
        write_safetensors(tmp_path / "a", {"x": np.ones(2, complex)})
    assert not list(tmp_path.iterdir())


def test_missing_file(tmp_path):
    with pytest.raises(errors.CheckpointError, match="No such file"):
        SafetensorsFile(tmp_path / "a")
