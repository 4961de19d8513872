"""Thousands of odd TensorFlow indexes, their checksums made right: an error in words, or arrays."""

import random
import struct
import tracemalloc

import google_crc32c
import numpy as np
import pytest
from gpt2_oracle import random_weights
from tf_bundle_writer import entry_proto, openai_variables, table, varint

from tinygrad_llm.errors import CheckpointError
from tinygrad_llm.pretrained.tf_checkpoint import TensorflowCheckpoint
from tinygrad_llm.pretrained.tf_table import read_table

ODD = (0, 1, 2, 3, 19, 127, 128, 2**31, 2**32 - 1, 2**62, 2**63, 2**64 - 1, 2**64, 2**70)
VARINT, EIGHT, SIZED, FOUR = 0, 1, 2, 5


def _masked(data):
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _fields(record):
    """[number, kind, value] of each field: what `entry_proto` writes, taken apart again."""
    found, at = [], 0
    while at < len(record):
        tag, at = _number(record, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = _number(record, at)
        else:
            length, at = (4, at) if kind == FOUR else _number(record, at)
            value, at = record[at : at + length], at + length
        found.append([number, kind, value])
    return found


def _number(data, at):
    value = shift = 0
    while True:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at


def _record(fields):
    """The bytes of fields, whatever kind each is said to be."""
    out = b""
    for number, kind, value in fields:
        out += varint(number << 3 | kind)
        raw = value if isinstance(value, bytes) else varint(value)
        if kind == VARINT:
            out += varint(value) if isinstance(value, int) else value
        elif kind == SIZED:
            out += varint(len(raw)) + raw
        else:
            size = {EIGHT: 8, FOUR: 4}.get(kind, len(raw))
            out += raw[:size].ljust(size, b"\0")
    return out


def _mutate_fields(rng, fields):
    """One change to a record: a kind, a value, a field more or less, or something deeper."""
    choice = rng.choice(["kind", "value", "add", "drop", "twice", "deeper"])
    if choice == "add" or not fields:
        kind = rng.choice([VARINT, EIGHT, SIZED, FOUR, 3, 4, 6, 7])
        fields.append([rng.randrange(0, 9), kind, rng.choice([*ODD, rng.randbytes(5)])])
        return
    field = rng.choice(fields)
    if choice == "kind":
        field[1] = rng.choice([VARINT, EIGHT, SIZED, FOUR, 3, 4, 6, 7])
    elif choice == "value":
        field[2] = rng.choice([*ODD, rng.randbytes(rng.randrange(12))])
    elif choice == "drop":
        fields.remove(field)
    elif choice == "twice":
        fields.insert(0, [field[0], field[1], rng.choice(ODD)])
    elif field[1] == SIZED and isinstance(field[2], bytes):
        try:
            inner = _fields(field[2])
        except IndexError:
            return
        _mutate_fields(rng, inner)
        field[2] = _record(inner)


def _mutate_block(rng, content):
    """One change to a block's bytes before its checksum is taken."""
    if rng.random() < 0.9 or not content:
        return content
    place = rng.randrange(len(content))
    choice = rng.randrange(4)
    if choice == 0:
        return content[:place] + bytes([rng.randrange(256)]) + content[place + 1 :]
    if choice == 1:
        return content[:place] + content[place + rng.randrange(1, 9) :]
    if choice == 2:
        return content[:-4] + struct.pack("<I", rng.choice([0, 7, 2**31, 2**32 - 1]))
    return content[:place] + varint(rng.choice(ODD)) + content[place:]


def _fuzzed(seed, entries):
    rng = random.Random(seed)
    entries = list(entries)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(entries))
        key, record = entries[place]
        if rng.random() < 0.15:
            key = rng.choice([b"", b"\xff\x1b[2J", key[:-1], key + b"/" * 50, b"model/wte"])
        else:
            try:
                fields = _fields(record)
            except IndexError:
                continue
            _mutate_fields(rng, fields)
            record = _record(fields)
        entries[place] = (key, record)
    whole = rng.random() < 0.7
    damage = bytes if whole else lambda content: _mutate_block(rng, content)
    out = table(entries, rng.choice([1, 7]), damage, _masked)
    if rng.random() < 0.1:
        place = rng.randrange(len(out) - 48, len(out) - 8)
        out = out[:place] + varint(rng.choice(ODD)) + out[place:]
    return out


@pytest.fixture
def bundle(tmp_path):
    """Entries of a small checkpoint, and where its index and data are."""
    entries, data = [(b"", b"\x08\x01\x1a\x02\x08\x01")], b""
    for name, array in sorted(openai_variables(random_weights()).items()):
        entries.append((name.encode(), entry_proto(array, len(data))))
        data += array.tobytes()
    (tmp_path / "m.ckpt.data-00000-of-00001").write_bytes(data)
    return entries, tmp_path / "m.ckpt.index", len(data)


def _opens(index, size):
    """Whether it opened; whatever opens lies within the data file and can be read or is refused."""
    try:
        source = TensorflowCheckpoint(index)
    except CheckpointError as error:
        if len(str(error)) > 2000:
            pytest.fail(f"too long: {error}")
        return False
    total = 0
    for name in source:
        try:
            array = source.read(name)
        except CheckpointError:
            continue
        assert array.shape == source.shape(name)
        total += array.nbytes
    assert total <= size
    return True


def _run(seeds, bundle):
    entries, index, size = bundle
    opened = 0
    for seed in seeds:
        index.write_bytes(_fuzzed(seed, entries))
        opened += _opens(index, size)
    assert 0.05 < opened / len(seeds) < 0.6  # both kinds are tried


def test_hundreds_of_odd_indexes(bundle):
    _run(range(500), bundle)


@pytest.mark.slow
def test_nine_thousand_odd_indexes(bundle):
    _run(range(500, 9500), bundle)


def test_every_kind_of_field_in_every_place(bundle):
    """A field of another kind than its record has in TensorFlow is damage."""
    entries, index, _ = bundle
    key, record = entries[1]
    for place in range(len(_fields(record))):
        for kind in (VARINT, EIGHT, SIZED, FOUR, 3, 6):
            fields = _fields(record)
            if kind == fields[place][1]:
                continue
            fields[place][1:] = [kind, 1]
            index.write_bytes(table([entries[0], (key, _record(fields))], 7, bytes, _masked))
            with pytest.raises(CheckpointError, match="damaged"):
                TensorflowCheckpoint(index)


def _index_of(*blocks, handles=None):
    """An index of raw data blocks; ``handles`` says which block each entry names."""
    out, places = b"", []
    for content in blocks:
        places.append(varint(len(out)) + varint(len(content)))
        out += content + b"\0" + struct.pack("<I", _masked(content + b"\0"))
    named = places if handles is None else [places[n] for n in handles]
    index = b"".join(
        b"\0\x04" + varint(len(h)) + struct.pack(">I", n) + h for n, h in enumerate(named)
    )
    index += struct.pack("<II", 0, 1)
    handle = varint(len(out)) + varint(len(index))
    out += index + b"\0" + struct.pack("<I", _masked(index + b"\0"))
    return out + (b"\0\0" + handle).ljust(40, b"\0") + struct.pack("<Q", 0xDB4775248B80FB57)


def _peak(content):
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="damaged"):
            read_table(content, "index")
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_keys_that_grow_take_no_more_memory_than_the_file_may():
    """Each entry shares the whole key before it and adds a letter."""
    out, length = b"", 0
    for _ in range(30000):
        out += varint(length) + b"\x01\x00k"
        length += 1
    assert _peak(_index_of(out + struct.pack("<II", 0, 1))) < 30e6


def test_a_block_named_many_times_is_read_once():
    empty = bytes(400_000) + struct.pack("<I", 100_000)
    assert _peak(_index_of(empty, handles=[0] * 20_000)) < 30e6


def test_a_number_that_does_not_end():
    assert _peak(_index_of(b"\xff" * 1_000_000 + struct.pack("<II", 0, 1))) < 30e6


def test_variables_that_share_their_bytes_are_more_than_the_file(bundle):
    entries, index, _ = bundle
    entry = entry_proto(random_weights()["wte.weight"], 0)
    same = [(f"model/h{n:04d}/w".encode(), entry) for n in range(2000)]
    index.write_bytes(table([entries[0], *same], 7, bytes, _masked))
    with pytest.raises(CheckpointError, match="its variables are .* its data files"):
        TensorflowCheckpoint(index)


def test_two_variables_of_one_name(bundle):
    entries, index, _ = bundle
    array = np.ones(2, np.float32)
    twice = [(b"model/ln_f/g", entry_proto(array, 0)), (b"model/ln_f/w", entry_proto(array, 8))]
    index.write_bytes(table([entries[0], *twice], 7, bytes, _masked))
    with pytest.raises(CheckpointError, match="two variables for"):
        TensorflowCheckpoint(index)
