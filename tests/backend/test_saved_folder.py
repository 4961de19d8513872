"""Folders that are saved whole or not at all, at every event of the file system."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tinygrad_llm.backend import saved_folder
from tinygrad_llm.backend.checksums import CHECKSUMS_NAME, recorded
from tinygrad_llm.backend.files import write_atomic
from tinygrad_llm.backend.saved_folder import joined, reading, saving, settle, verify
from tinygrad_llm.errors import CheckpointError

OLD = {"a.json": b"old a", "b.bin": b"old b"}
NEW = {"a.json": b"new a", "b.bin": b"new b", "c.txt": b"new c"}


def save(folder, contents, part="files"):
    with saving(folder, part) as staged:
        for name, content in contents.items():
            write_atomic(staged / name, content)


def contents(folder):
    """The files of a folder, but for its list and what is being saved."""
    files = [p for p in folder.iterdir() if p.is_file() and p.name != CHECKSUMS_NAME]
    return {p.name: p.read_bytes() for p in files}


class Stop(BaseException):
    """Stands for a process that is killed: nothing that comes after it runs."""


# What a save calls of the system; a kill may come before any of them.
EVENTS = ("replace", "rename", "fsync", "mkdir", "unlink", "rmdir", "open")


def stopping_at(event, monkeypatch):
    """From the numbered event on, no call of the system comes through."""
    seen = [0]

    def counted(real):
        def call(*args, **kwargs):
            seen[0] += 1
            if seen[0] >= event:
                raise Stop
            return real(*args, **kwargs)

        return call

    for name in EVENTS:
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    monkeypatch.setattr(shutil, "rmtree", counted(shutil.rmtree))
    return seen


def test_a_save_that_is_killed_at_any_event_leaves_the_old_folder_or_the_new_one(
    tmp_path, monkeypatch
):
    ends = []
    for event in range(1, 200):
        folder = tmp_path / str(event)
        save(folder, OLD)
        with monkeypatch.context() as patch:
            stopping_at(event, patch)
            try:
                save(folder, NEW)
                done = True
            except Stop:
                done = False
        verify(folder)  # as whoever opens it next does
        found = {n: c for n, c in contents(folder).items() if not n.startswith(".")}
        assert found in (OLD, NEW), event
        ends.append(found == NEW)
        save(folder, {"d": b"later"})
        assert [p.name for p in folder.iterdir() if p.name.startswith(".")] == []
        if done:
            break
    assert done
    assert ends == sorted(ends)
    assert 0 < sum(ends) < len(ends)


@pytest.mark.parametrize("where", [("a.json", 0), ("b.bin", 3), (CHECKSUMS_NAME, 40)])
def test_a_changed_byte_is_noticed(tmp_path, where, monkeypatch):
    save(tmp_path, OLD)
    path = tmp_path / where[0]
    raw = bytearray(path.read_bytes())
    raw[where[1]] ^= 1
    path.write_bytes(raw)
    with pytest.raises(CheckpointError, match=rf"{where[0]}: is damaged"):
        verify(tmp_path)
    monkeypatch.setenv("TINYGRAD_LLM_VERIFY", "off")
    assert verify(tmp_path) == frozenset()


def test_any_changed_bit_of_the_list_is_noticed(tmp_path):
    save(tmp_path, {"a": b"x"})
    path = tmp_path / CHECKSUMS_NAME
    raw = path.read_bytes()
    for at in range(0, len(raw) - 1):  # the last byte is a line break
        path.write_bytes(raw[:at] + bytes([raw[at] ^ 4]) + raw[at + 1 :])
        if json.loads(raw) != parsed(path):
            with pytest.raises(CheckpointError):
                verify(tmp_path)


def parsed(path):
    try:
        return json.loads(path.read_bytes())
    except ValueError:
        return None


def test_sizes_missing_files_and_names(tmp_path):
    save(tmp_path, OLD)
    assert verify(tmp_path) == {"a.json", "b.bin"}
    assert verify(tmp_path, ["b.bin", "other"]) == {"b.bin"}
    (tmp_path / "a.json").write_bytes(b"longer than it was")
    with pytest.raises(CheckpointError, match="18 bytes, 5 were written"):
        verify(tmp_path)
    (tmp_path / "a.json").unlink()
    with pytest.raises(CheckpointError, match="a.json: is missing"):
        verify(tmp_path)
    verify(tmp_path, ["b.bin"])


def test_a_part_replaces_its_own_files_and_no_others(tmp_path):
    (tmp_path / "mine.txt").write_text("foreign")
    save(tmp_path, {"m1": b"1", "m2": b"2"}, "model")
    save(tmp_path, {"t": b"3"}, "tokenizer")
    save(tmp_path, {"m1": b"4"}, "model")
    assert contents(tmp_path) == {"m1": b"4", "t": b"3", "mine.txt": b"foreign"}
    assert verify(tmp_path) == {"m1", "t"}


def test_nested_saves_are_one(tmp_path):
    save(tmp_path, {"m": b"0", "gone": b"0"}, "model")
    save(tmp_path, {"t": b"0", "old": b"0"}, "tokenizer")
    with saving(tmp_path, "model") as staged:
        save(tmp_path, {"t": b"1"}, "tokenizer")
        save(staged, {"m": b"1"}, "weights")
        write_atomic(staged / "about", b"2")
        assert contents(tmp_path)["m"] == b"0"
    assert contents(tmp_path) == {"m": b"1", "t": b"1", "about": b"2"}
    parts = {name: entry["part"] for name, entry in recorded(tmp_path).items()}
    assert parts == {"m": "weights", "t": "tokenizer", "about": "model"}


def break_off(folder):
    with saving(folder) as staged:
        write_atomic(staged / "a.json", b"half")
        raise ZeroDivisionError


def test_an_error_in_the_block_leaves_everything_as_it_was(tmp_path):
    save(tmp_path / "old", OLD)
    for folder, before in ((tmp_path / "old", OLD), (tmp_path / "new", None)):
        with pytest.raises(ZeroDivisionError):
            break_off(folder)
        assert (contents(folder) if before else folder.exists() or None) == before


def test_errors_name_the_folder_that_was_asked_for(tmp_path):
    with pytest.raises(CheckpointError, match=rf"^{tmp_path}/x: full"), saving(tmp_path) as staged:
        raise CheckpointError(f"{staged}/x: full")
    with pytest.raises(CheckpointError, match="No such file"), saving(tmp_path) as staged:
        (staged / "no" / "such").write_bytes(b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(CheckpointError, match="file: cannot be written"), saving(tmp_path / "file"):
        pass
    (tmp_path / "a").mkdir()
    with pytest.raises(CheckpointError, match="a: is a folder"):
        save(tmp_path, {"a": b""})


def test_a_list_of_another_program_is_left_alone(tmp_path):
    (tmp_path / CHECKSUMS_NAME).write_text('{"md5": {}}')
    with pytest.raises(CheckpointError, match="another program's"):
        save(tmp_path, OLD)
    assert [p.name for p in tmp_path.iterdir()] == [CHECKSUMS_NAME]
    with pytest.raises(CheckpointError, match="of another program"):
        verify(tmp_path)


def test_names_that_lead_out_of_the_folder_are_refused(tmp_path):
    folder = tmp_path / "f"
    save(folder, OLD)
    body = saved_folder.read_sealed(folder / CHECKSUMS_NAME)
    body["files"]["../outside"] = {"bytes": 0, "sha256": ""}
    (folder / CHECKSUMS_NAME).write_bytes(saved_folder.sealed(body))
    with pytest.raises(CheckpointError, match="damaged"):
        verify(folder)


def test_a_folder_that_appears_as_a_whole_needs_no_list_of_its_own(tmp_path):
    with joined(tmp_path):
        save(tmp_path, OLD)
    assert contents(tmp_path) == OLD
    assert not (tmp_path / CHECKSUMS_NAME).exists()


def test_what_a_living_saver_has_staged_stays_and_what_a_dead_one_left_goes(tmp_path):
    program = (
        "import os, sys; from tinygrad_llm.backend.saved_folder import saving\n"
        "with saving(sys.argv[1]) as staged: print(staged.name, flush=True); sys.stdin.read(1)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    saver = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    name = saver.stdout.readline().strip()
    save(tmp_path, OLD)
    assert (tmp_path / name).is_dir()
    saver.kill()
    saver.communicate()
    save(tmp_path, OLD)
    assert not (tmp_path / name).exists()
    settle(tmp_path)


def test_a_reader_does_not_get_the_files_of_two_saves(tmp_path):
    save(tmp_path, OLD)
    with reading(tmp_path):
        assert (tmp_path / "a.json").read_bytes() == b"old a"
    with pytest.raises(CheckpointError, match="was saved anew while it was read"):
        read_beside_a_save(tmp_path)


def read_beside_a_save(folder):
    with reading(folder):
        assert (folder / "a.json").read_bytes() == b"old a"
        save(folder, NEW)
        verify(folder)


@pytest.mark.skipif(os.name != "posix", reason="pipes")
def test_only_what_a_killed_saver_left_is_removed(tmp_path):
    for name in (".saving-1-k2v9x_ab", ".saving-mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.json").write_bytes(b"half")
    os.mkfifo(tmp_path / ".saving-2-k2v9x_ab")
    save(tmp_path, NEW)
    left = sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("."))
    assert left == [".saving-2-k2v9x_ab", ".saving-mine"]
