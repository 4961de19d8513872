"""The trials themselves: events are seen in order, faults strike, and a careless saver is found."""

import os
import shutil
import sys
import time

import pytest

from tests.reliability.faults import FULL, KILL, Fault
from tests.reliability.processes import run
from tests.reliability.trials import Saved, crashes, damages, errors, readers
from tinygrad_llm.errors import DataError

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits memory")
EVENTS = [
    "mkdir a",
    "open a/one",
    "write a/one",
    "flush a/one",
    "open a/two",
    "write a/two",
    "rename a/three",
    "link last",
    "unlink a/one",
    "unlink a/three",
    "rmdir a",
]


def everything(folder):
    (folder / "a").mkdir()
    with open(folder / "a" / "one", "wb") as file:
        file.write(b"twelve bytes")
        file.flush()
        os.fsync(file.fileno())
    (folder / "a" / "two").write_text("text", encoding="utf-8")
    os.replace(folder / "a" / "two", folder / "a" / "three")
    (folder / "last").symlink_to("a")
    shutil.rmtree(folder / "a")


def asks(folder):
    return folder.is_dir() and os.listdir(folder)


def refuses(folder):
    raise DataError("no")


def breaks(folder):
    raise KeyError("oh")


def sleeps(folder):
    time.sleep(60)


def test_every_event_is_seen(tmp_path):
    outcome = run(everything, tmp_path, folder=tmp_path)
    assert outcome.clean
    seen = outcome.events
    assert sorted(seen) == sorted(EVENTS)
    assert seen[:8] == EVENTS[:8]


def test_asking_for_a_file_fails_too(tmp_path):
    asked = run(asks, tmp_path, folder=tmp_path, reads=True)
    assert asked.events == ["stat .", "read ."]
    for at, what in ((0, "EACCES"), (1, "EIO")):
        assert run(asks, tmp_path, folder=tmp_path, fault=Fault(at, what), reads=True).raw


def test_a_kill_comes_in_the_middle_of_a_write(tmp_path):
    assert run(everything, tmp_path, folder=tmp_path, fault=Fault(2, KILL)).killed
    assert (tmp_path / "a" / "one").read_bytes() == b"twelve"
    assert not (tmp_path / "a" / "two").exists()


@pytest.mark.parametrize(("what", "said"), [(FULL, "No space left"), ("EIO", "Input/output")])
def test_an_event_fails(what, said, tmp_path):
    outcome = run(everything, tmp_path, folder=tmp_path, fault=Fault(3, what))
    assert said in outcome.raw
    assert (tmp_path / "a" / "one").read_bytes() == b"twelve bytes"


def test_an_unlink_needs_no_room(tmp_path):
    assert run(everything, tmp_path, folder=tmp_path, fault=Fault(8, FULL)).clean


def test_how_a_task_ends_is_told(tmp_path):
    assert run(refuses, tmp_path, folder=tmp_path).refusal == "DataError: no"
    assert "KeyError" in run(breaks, tmp_path, folder=tmp_path).raw
    assert run(sleeps, tmp_path, folder=tmp_path, seconds=0.5).hung


def test_a_careless_saver_is_found(tmp_path):
    saved = Saved("careless", tmp_path / "saved")
    assert crashes(saved).seen == {"old": 2, "mix": 3}  # one file new, the other cut off or old
    assert errors(saved).seen["raw"] == 5 + 4 + 2  # no room, input/output, no permission
    assert len(damages(saved, 10, seed=0).finds) == 10
    assert readers(saved).seen["mix"] == 3
