"""A command that is killed, or whose disk fails, at any file event goes on to the same result."""

import sys

import pytest

from tests.reliability.commands import COMMANDS, Called, crashes_of_commands, errors_of_commands
from tests.reliability.trials import ERRORS

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, limits memory")


@pytest.fixture
def called(request, tmp_path):
    return Called(request.param, tmp_path / "called")


@pytest.mark.parametrize("called", ["train", "tokenize"], indirect=True)
def test_some_events(called):
    assert crashes_of_commands(called, every=75).finds == []


@pytest.mark.slow
@pytest.mark.parametrize("called", COMMANDS, indirect=True)
def test_killed_at_every_event(called):
    assert crashes_of_commands(called).finds == []


@pytest.mark.slow
@pytest.mark.parametrize("what", ERRORS)
@pytest.mark.parametrize("called", COMMANDS, indirect=True)
def test_an_error_at_every_event(called, what):
    assert errors_of_commands(called, 1, [what]).finds == []
