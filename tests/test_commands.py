"""The way from what a person types to a command of the package."""

import pytest

from tinygrad_llm.__main__ import COMMANDS, main
from tinygrad_llm.commands.program import without_comment


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("explain gelu # formula, check", "explain gelu"),
        ("env # what is installed", "env"),
        ("generate --prompt # --tokens 3", "generate --prompt # --tokens 3"),
        ("generate --text notes #", "generate --text notes #"),
        ("tokenize a#b c", "tokenize a#b c"),
        ("", ""),
    ],
)
def test_a_comment_that_the_shell_hands_on_is_no_argument(typed, meant):
    assert without_comment(typed.split()) == meant.split()


def test_every_command_says_what_it_is_for(capsys):
    assert main(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"  {name} " in listed for name in COMMANDS)


@pytest.mark.parametrize("words", [["trian"], ["finetune", "spma"], []])
def test_an_unknown_command_is_answered_with_the_list(words, capsys):
    assert main(words) == 2
    shown = capsys.readouterr()
    assert "train" in shown.out + shown.err or "spam" in shown.err
    if words:
        assert "Did you mean" in shown.err
