"""The mutator itself, and a part of what it draws: the tests notice at least 98 of 100 mistakes."""

import ast

import pytest
from equivalent import EQUIVALENT
from mutator import draw, mutants_of
from score import PACKAGE, ROOT, all_mutants, main, stages_of

SOURCE = '''
LIMIT = 3

@register(samples=lambda rng: 1 + 1)
def clipped(x: int = 3, *, low=-1, name: "a < b" = "é"):
    """1 + 1 is no expression here."""
    if x < low and not name:
        raise ValueError(f"{x + 1} < {low}")
    y = x.max(axis=0) * 2.0
    y += clip(x, low, 5, strict=True)
    clipped(y)
    return y if name else -y


def clipped_composed(x):
    return x + 1


def _planted(ctx, dy):
    return x + 1
'''


def changes(source=SOURCE):
    return {(m.old, m.new) for m in mutants_of("file.py", source)}


def test_every_kind_of_change_is_found():
    assert changes() >= {
        ("x < low", "(x <= low)"),
        ("x < low and not name", "(x < low or not name)"),
        ("not name", "(name)"),
        ("x.max(axis=0) * 2.0", "(x.max(axis=0) / 2.0)"),
        ("x.max(axis=0)", "x.min(axis=0)"),
        ("x.max(axis=0)", "x.max()"),
        ("2.0", "2.2"),
        ("y += clip(x, low, 5, strict=True)", "y -= clip(x, low, 5, strict=True)"),
        ("y += clip(x, low, 5, strict=True)", "pass"),
        ("clipped(y)", "pass"),
        ("y if name else -y", "(-y if name else y)"),
        ("-y", "(y)"),
        ("-1", "(1)"),
        ("3", "4"),
    }


def test_what_does_not_compute_is_left_alone():
    for old, _ in changes():
        assert not any(word in old for word in ("1 + 1", "a < b", "LIMIT", "x + 1", "True ="))


def test_a_mutant_is_the_source_with_one_change():
    for mutant in mutants_of("file.py", SOURCE):
        text = mutant.apply(SOURCE)
        ast.parse(text)
        assert text != SOURCE
        assert len(text) - len(SOURCE) == len(mutant.new) - len(mutant.old)
    names = [m.name for m in mutants_of("file.py", SOURCE * 2)]
    assert len(set(names)) == len(names)


def test_what_is_drawn_does_not_depend_on_the_rest_of_the_program():
    mutants = mutants_of("file.py", SOURCE)
    drawn = {m.name for m in draw(mutants, 5, seed=1)}
    assert len(drawn) == 5
    moved = {m.name for m in draw(mutants_of("file.py", f"import os\n{SOURCE}"), 5, seed=1)}
    assert moved == drawn
    assert {m.name for m in draw(mutants, 5, seed=2)} != drawn


def test_the_mutants_fit_the_program():
    """A mutant written by hand must be changed together with the line it changes."""
    mutants = all_mutants()
    names = [m.name for m in mutants]
    assert len(set(names)) == len(names)
    assert set(EQUIVALENT) <= set(names)
    assert len(names) - len(EQUIVALENT) >= 200
    for mutant in mutants:
        source = (ROOT / mutant.file).read_text(encoding="utf-8")
        ast.parse(mutant.apply(source))
        for stage in stages_of(mutant.file, source):
            assert (ROOT / stage[0]).exists()


def test_near_tests_come_first():
    near, rest = stages_of(f"{PACKAGE}/optim/clip.py", "")
    assert near == ["tests/optim/test_clip.py"]
    assert "tests/optim/test_schedule.py" in rest
    first, *_ = stages_of(f"{PACKAGE}/ops/kinked.py", '@register(\n    "relu", family=""')
    assert first == ["tests/ops/test_every_op.py", "-k", "relu"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["ops", "nn", "optim", "generation"])
def test_the_tests_notice_mistakes(part, capsys):
    """Eight of each part; `python tests/mutation/score.py` tries them all."""
    assert main(["--part", part, "--sample", "8"]) == 0, capsys.readouterr().out
