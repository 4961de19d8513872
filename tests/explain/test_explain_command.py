"""The commands that explain and check ops, as they look on a terminal of 80 columns."""

import os
import shutil
import sys

import pytest

import tinygrad_llm as tg
from tinygrad_llm.__main__ import COMMANDS, main
from tinygrad_llm.autograd.registry import REGISTRY
from tinygrad_llm.commands import explain as command
from tinygrad_llm.commands import finetune, gradcheck
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.explain.op.list import FAMILIES, OpList


def test_families_stand_in_a_fixed_order_and_the_list_is_narrow():
    families = list(OpList().families())
    known = [family for family in families if family in FAMILIES]
    assert known == sorted(known, key=FAMILIES.index)
    assert known == families[: len(known)], "a reader's own come last"
    assert {op.family for op in REGISTRY.values() if "tinygrad_llm" in op.function.__module__} == {
        *FAMILIES
    }
    lines = str(OpList()).splitlines()
    assert [line for line in lines[:-1] if len(line) > 80] == []


def test_the_formula_stands_above_what_is_written_for_speed():
    titles = [s.title for s in tg.explain("layer_norm").sections]
    simple = next(title for title in titles if title.startswith("In simple ops"))
    assert titles.index("Derivation") < titles.index(simple) < titles.index("Forward")
    assert "In simple ops" not in str(tg.explain("tanh")), "its forward is the formula"


def test_the_kernel_on_demand(capsys):
    assert main(["explain", "softmax", "--kernel"]) == 0
    assert "@triton.jit" in capsys.readouterr().out
    assert main(["explain", "sqrt", "--kernel"]) == 2
    assert "sqrt has no Triton kernel" in capsys.readouterr().err


def test_another_sample():
    first, exact = str(tg.explain("gelu")), str(tg.explain("gelu", sample=2))
    assert "Sample 1 of 3; --sample shows another: 2 exact, 3 far out." in first
    assert "y = gelu(x)" in first
    assert "y = gelu(x, approximate='none')" in exact
    with pytest.raises(ConfigError, match="samples 1 to 3, got 4"):
        tg.explain("gelu", sample=4)


@pytest.mark.parametrize(("rows", "paged"), [(10_000, False), (24, True)])
def test_a_pager_if_it_is_longer_than_the_screen(monkeypatch, capsys, rows, paged):
    pages = []
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, rows)))
    monkeypatch.setattr(command.pydoc, "pager", pages.append)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert command.main(["tanh"]) == 0
    shown = "".join([capsys.readouterr().out, *pages])
    assert bool(pages) == paged
    heading = "".join(f"{c}\b{c}" for c in "Formula") if paged else "\x1b[1mFormula\x1b[0m"
    assert f"{heading}\n-------\n" in shown


def test_gradcheck_fits_80_columns(capsys):
    assert main(["gradcheck", "scaled_dot_product_attention", "dropout"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


def test_an_interrupted_gradcheck_is_one_word(monkeypatch, capsys):
    def interrupt(op, device):
        raise KeyboardInterrupt

    monkeypatch.setattr(gradcheck, "check_op", interrupt)
    assert main(["gradcheck"]) == 130
    assert capsys.readouterr().err == "\nStopped.\n"


HELPS = [[name] for name in COMMANDS if name != "finetune"] + [
    ["finetune", name] for name in finetune.TASKS
]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_is_plain_text(words, capsys):
    with pytest.raises(SystemExit):
        main([*words, "--help"])
    said = capsys.readouterr().out
    assert "`" not in said
    assert "usage: tinygrad-llm " + " ".join(words) in said
