"""Thousands of odd headers: what the safetensors library refuses is refused, the rest is the same.

The library stands behind the reader, so that the oracle here reads another way: from bytes.
"""

import json
import random

import numpy as np
import pytest
from safetensors import SafetensorError, deserialize

from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained import SafetensorsFile
from tinygrad_llm.pretrained.safetensors_file import DTYPES

ODD = (None, True, -1, 0, 1, 1.5, 2**31, 2**62, 2**63, 2**64, 10**400, "", "F32", "\ud800", [], {})
ODD_SHAPES = ([], [0], [0, 2**63], [0, 2**62, 2], [1] * 65, [2**32, 2**32], [10**18] * 30, [6.0])
ODD_TYPES = (*DTYPES, "F8_E4M3", "F8_E5M2", "F4", "C64", "f32", "F128", "", "\x1b[2J", [], {}, 7)


def _header(rng):
    """A valid header of a few tensors, and how many bytes they have."""
    entries, offset = {}, 0
    for number in range(rng.randrange(1, 5)):
        kind = rng.choice(list(DTYPES))
        shape = [rng.randrange(0, 4) for _ in range(rng.randrange(0, 4))]
        size = int(np.prod(shape, dtype=int)) * DTYPES[kind].itemsize
        entries[f"t{number}"] = {
            "dtype": kind,
            "shape": shape,
            "data_offsets": [offset, offset + size],
        }
        offset += size
    if rng.random() < 0.3:
        entries["__metadata__"] = {"format": "pt"}
    return entries, offset


def _mutate(rng, header):
    """One change to the header's meaning."""
    name = rng.choice(list(header))
    entry = header[name]
    key = rng.choice(["dtype", "shape", "data_offsets", "whole", "name", "metadata", "gone"])
    if key == "whole":
        header[name] = rng.choice(ODD)
    elif key == "name":
        header[rng.choice(["", "\x1b]0;x\x07", "a" * 500, "t0", "\ud800"])] = header.pop(name)
    elif key == "metadata":
        header["__metadata__"] = rng.choice([*ODD, {"a": 1}, {"a": None}, {"a": {}}, {"a": "b"}])
    elif not isinstance(entry, dict) or key not in entry:
        header[name] = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
    elif key == "dtype":
        entry["dtype"] = rng.choice(ODD_TYPES)
    elif rng.random() < 0.5:
        entry[key] = rng.choice([*ODD, *ODD_SHAPES])
    elif isinstance(entry[key], list) and entry[key]:
        place = rng.randrange(len(entry[key]))
        entry[key][place] = rng.choice([*ODD, rng.randrange(20)])


def _fuzzed(seed):
    """The bytes of a file: a valid one with up to three changes, of meaning, of text or of size."""
    rng = random.Random(seed)
    header, size = _header(rng)
    for _ in range(rng.randrange(0, 4)):
        _mutate(rng, header)
    text = json.dumps(header).encode()
    if rng.random() < 0.2:
        place = rng.randrange(len(text))
        text = text[:place] + rng.randbytes(rng.randrange(3)) + text[place + rng.randrange(3) :]
    if rng.random() < 0.1:  # one name twice
        text = text[:-1] + b"," + text[1:]
    if rng.random() < 0.05:
        text = b'{"t0":' + rng.choice([b"[", b'{"a":']) * 5000
    length = len(text) + (rng.choice([-1, 1, 2**40, 2**63]) if rng.random() < 0.05 else 0)
    size += rng.choice([-1, 1, 8]) if rng.random() < 0.1 else 0
    return max(length, 0).to_bytes(8, "little") + text + rng.randbytes(max(size, 0))


def _ours(path):
    """Name -> (type of NumPy, shape, bytes); None where the file is refused."""
    try:
        file = SafetensorsFile(path)
    except CheckpointError as error:
        message = str(error)
        if len(message) > 2000 or "\x1b" in message:
            pytest.fail(f"unfit for a terminal: {message!r}")
        return None
    arrays = {name: file.read(name) for name in file}
    assert all(arrays[name].shape == file.shape(name) for name in file)
    return arrays


def _has_a_name_twice(content):
    found = []

    def look(pairs):
        found.append(len(pairs) > len(dict(pairs)))
        return dict(pairs)

    json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")], object_pairs_hook=look)
    return any(found)


def _theirs(content):
    """What the library reads; None where it refuses, or takes one of two values silently."""
    try:
        read = {
            name: (i["dtype"], i["shape"], bytes(i["data"])) for name, i in deserialize(content)
        }
    except SafetensorError:
        return None
    return None if _has_a_name_twice(content) else read


def _fits_numpy(kind, shape):
    if kind not in DTYPES:
        return False
    try:
        np.broadcast_to(np.zeros((), DTYPES[kind]), shape)
    except (ValueError, OverflowError):
        return False
    return True


def _compare(seed, path):
    """Whether the file opened, after it was compared with what the library says."""
    content = _fuzzed(seed)
    path.write_bytes(content)
    ours, theirs = _ours(path), _theirs(content)
    if ours is None:
        assert theirs is None or not all(_fits_numpy(*t[:2]) for t in theirs.values()), seed
        return False
    assert theirs is not None, seed
    assert set(ours) == set(theirs), seed
    for name, (kind, shape, data) in theirs.items():
        assert ours[name].shape == tuple(shape), seed
        if kind == "BF16":
            assert np.array_equal(
                ours[name].view(np.uint32) >> 16, np.frombuffer(data, "<u2").reshape(shape)
            )
        else:
            assert ours[name].dtype == DTYPES[kind], seed
            assert ours[name].tobytes() == data, seed
    return True


def _run(seeds, path):
    opened = sum(_compare(seed, path) for seed in seeds)
    assert 0.1 < opened / len(seeds) < 0.7  # both kinds are tried


def test_hundreds_of_odd_headers(tmp_path):
    _run(range(600), tmp_path / "a")


@pytest.mark.slow
def test_six_thousand_odd_headers(tmp_path):
    _run(range(600, 6600), tmp_path / "a")
