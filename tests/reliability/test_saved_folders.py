"""Whatever strikes a saver or an opener, a folder is the old one, the new one, or refused.

The quick tests try some places of some kinds, the slow ones all of all; `count.py` prints counts.
"""

import sys

import pytest

from tests.reliability import trials
from tests.reliability.saved import KINDS
from tests.reliability.trials import Saved

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits memory")
REPLACED = [name for name, kind in KINDS.items() if kind.replaces]


@pytest.fixture
def saved(request, tmp_path):
    return Saved(request.param, tmp_path / "saved")


@pytest.mark.parametrize("saved", ["classifier"], indirect=True)
@pytest.mark.parametrize(
    ("trial", "every"),
    [
        (trials.crashes, 14),
        (trials.crashes_of_openers, 20),
        (trials.errors, 40),
        (trials.errors_of_openers, 3),
        (trials.readers, 20),
        (trials.overtaken, 3),
    ],
)
def test_some_events_of_some_kinds(saved, trial, every):
    assert trial(saved, every).finds == []


@pytest.mark.parametrize("saved", KINDS, indirect=True)
def test_some_damages_of_every_kind(saved):
    assert trials.damages(saved, tries=8, seed=5).finds == []


@pytest.mark.slow
@pytest.mark.parametrize("saved", REPLACED, indirect=True)
@pytest.mark.parametrize(
    "trial",
    [trials.crashes, trials.errors, trials.errors_of_openers, trials.readers, trials.overtaken],
    ids=lambda trial: trial.__name__,
)
def test_every_event_of_every_kind(saved, trial):
    assert trial(saved).finds == []


@pytest.mark.slow
@pytest.mark.parametrize("saved", REPLACED, indirect=True)
def test_every_event_of_openers_that_finish_a_save(saved):
    assert trials.crashes_of_openers(saved, every=2).finds == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", REPLACED)
def test_every_event_of_a_first_save(kind, tmp_path):
    assert trials.crashes(Saved(kind, tmp_path / "saved", older=False)).finds == []


@pytest.mark.slow
@pytest.mark.parametrize("saved", KINDS, indirect=True)
def test_many_damages_of_every_kind(saved):
    assert trials.damages(saved, tries=250, seed=1).finds == []
