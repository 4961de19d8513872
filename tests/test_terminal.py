"""Text on a terminal: lines end between words. Nowhere are there control characters."""

import ast
import io
import sys
import warnings
from pathlib import Path

import pytest

from tinygrad_llm import errors, terminal
from tinygrad_llm.__main__ import main
from tinygrad_llm.commands.program import warnings_in_one_sentence
from tinygrad_llm.control_characters import one_line
from tinygrad_llm.terminal import Lines, fitting, print_as_it_comes, say, styled, visible, width_of


class Screen(io.StringIO):
    """A stream that is a terminal of some columns."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def isatty(self):
        return self.room is not None


@pytest.fixture
def screen(monkeypatch):
    monkeypatch.setattr(terminal, "columns", lambda stream: getattr(stream, "room", None) or 0)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    return Screen


def written(stream, text, size, column=0):
    lines = Lines(stream, column)
    for start in range(0, len(text), size):
        lines.write(text[start : start + size])
    lines.finish()
    return stream.getvalue()


TEXT = "The statement to are new instances of the subscription.\n  Indented lines stay so."


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_lines_end_between_words_wherever_a_piece_ends(screen, size):
    said = written(screen(20), TEXT, size)
    assert said.split("\n") == [
        "The statement to are",
        "new instances of the",
        "subscription.",
        "  Indented lines",
        "stay so.",
    ]


def test_the_first_line_begins_behind_what_is_there(screen):
    assert written(screen(20), "one two three", 4, column=12) == "one two\nthree"
    assert written(screen(20), "abcdefghij", 4, column=15) == "\nabcdefghij"


def test_the_width_is_asked_for_anew(screen):
    stream = screen(40)
    lines = Lines(stream)
    lines.write("one two three four ")
    stream.room = 12
    lines.write("five six seven ")
    lines.finish()
    assert stream.getvalue() == "one two three four\nfive six\nseven "


def test_letters_of_two_columns_and_of_none(screen):
    assert width_of("a\u0301\u4f60\u597d") == 5
    assert (
        written(screen(6), "\u4f60\u597d\u4f60\u597d\u4f60", 1)
        == "\u4f60\u597d\u4f60\n\u597d\u4f60"
    )
    assert written(screen(8), "na\u0301ive na\u0301ive", 1) == "na\u0301ive\nna\u0301ive"


def test_a_word_longer_than_a_line_is_written_whole(screen):
    assert written(screen(5), "x abcdefghijkl yz ab", 1) == "x\nabcdefghijkl yz\nab"


def test_control_characters_are_shown_not_obeyed(screen):
    text = "a\x1b[2Jb\rc\x07\x9b\u202ed\te\n"
    assert visible(text) == "a\u241b[2Jb\u240dc\u2407\ufffd\ufffdd\te\n"
    shown = written(screen(80), text, 1)
    assert not any(c in shown for c in "\x1b\r\x07\x9b\u202e\t")


def test_errors_show_control_characters_of_the_names_in_them():
    for kind in (errors.DataError, errors.MissingDependencyError, errors.IndexRangeError):
        assert str(kind("a\x1b]0;title\x07 \u202eb\tc")) == "a\u241b]0;title\u2407 \ufffdb\tc"


@pytest.mark.parametrize("end", [*"\n\r\v\f\x1c\x85\u2028\u2029", "\r\n"])
def test_a_line_break_in_a_name_is_shown_as_an_escape(end):
    name = f"run{end}Done: all is well."
    shown = one_line(Path(name))
    assert len(shown.splitlines()) == 1
    assert shown.encode().decode("unicode_escape") == name
    assert str(errors.DataError(f"{name}: gone", "  line two")) == f"{shown}: gone\n  line two"
    assert errors.in_words(OSError(2, "No such file", name)) == f"{shown}: No such file."


def test_a_warning_of_a_program_shows_them_too():
    with warnings_in_one_sentence("program"):
        said = warnings.formatwarning("a\x1b[2Jb", UserWarning, "file.py", 1)
    assert said == "program: a\u241b[2Jb\n"


def test_without_a_terminal_lines_stay_as_they_are(screen, monkeypatch):
    text = "a\x1b[2Jb " + TEXT
    assert written(screen(None), text, 5) == "a\u241b[2Jb " + TEXT
    assert fitting(text, screen(None)) == "a\u241b[2Jb " + TEXT
    out = screen(None)
    monkeypatch.setattr("sys.stdout", out)
    print_as_it_comes(iter(["un", "touched words"]), column=3)
    assert out.getvalue() == "untouched words"


def test_a_terminal_that_does_not_say_its_width_obeys_nothing_either(screen):
    text = "a\x1b[2Jb\x07 c"
    assert written(screen(0), text, 2) == "a\u241b[2Jb\u2407 c"
    assert fitting(text, screen(0)) == "a\u241b[2Jb\u2407 c"


def test_an_interrupted_text_is_shown_to_its_last_letter(screen, monkeypatch):
    def pieces():
        yield "half a wo"
        raise KeyboardInterrupt

    out = screen(80)
    monkeypatch.setattr("sys.stdout", out)
    with pytest.raises(KeyboardInterrupt):
        print_as_it_comes(pieces())
    assert out.getvalue() == "half a wo"


def test_a_finished_text_is_fitted(screen):
    assert (
        fitting("step 1:  loss 3.2\n\n  two words", screen(10))
        == "step 1:\nloss 3.2\n\n  two\n  words"
    )


def test_styles_where_they_are_shown_and_wanted(screen, monkeypatch):
    assert styled("x", "bold", screen(80)) == "\x1b[1mx\x1b[0m"
    assert styled("x", "bold", screen(None)) == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert styled("x", "bold", screen(80)) == "x"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert styled("x", "bold", screen(80)) == "x"


def test_what_a_command_says_moves_no_cursor(screen, monkeypatch):
    out = screen(80)
    monkeypatch.setattr("sys.stdout", out)
    say("a\x1b]0;title\x07", "bold")
    say(["\x9b"], end="", file=out)
    assert out.getvalue() == "\x1b[1ma\u241b]0;title\u2407\x1b[0m\n['\\x9b']"


def test_a_full_standard_error_ends_no_command(screen, monkeypatch):
    class Full(screen):
        def write(self, text):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr("sys.stderr", Full(None))
    say("a note", file=sys.stderr)
    with pytest.raises(OSError, match="No space"):
        say("the result", file=Full(None))


def test_programs_print_by_say_alone():
    """A plain print would hand a name's control characters on."""
    package = Path(terminal.__file__).parent
    spoken = [
        package / "finetuning" / "base_model.py",
        *(package / "commands").rglob("*.py"),
        *(package / "training" / "report").glob("*.py"),
    ]
    printing = [
        path.name
        for path in spoken
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "print"
    ]
    assert len(spoken) > 30
    assert printing == []


def test_what_a_program_says_of_an_error():
    name = "n" * 5000
    assert errors.in_words(errors.DataError(f"{name}: gone")) == (
        f"{'n' * 100}[4,881 letters]{'n' * 19}: gone"
    )
    assert errors.in_words(OSError(28, "No space left", "a\x1b")) == "a\u241b: No space left."
    assert errors.in_words(MemoryError()) == "not enough memory."
    assert errors.in_words(FileNotFoundError(2, "No such file")).startswith("the current folder")
    assert errors.in_words(ZeroDivisionError()) is None


@pytest.mark.parametrize(
    "text", ["a\tb\n", "👩\u200d🔬", "e\u0301", "שלום \u200fעולם", "ไทย \xa0 中文"]
)
def test_text_of_a_model_is_printed_as_it_is(text, capsys):
    print_as_it_comes([*text])
    assert capsys.readouterr().out == text


@pytest.mark.parametrize("name", ["stdin", "stdout"])
def test_a_closed_stream_ends_no_command(name, monkeypatch):
    """As a shell's ``<&-`` and ``>&-``: Python sets the stream to None."""
    monkeypatch.setattr(sys, name, None)
    assert main(["explain", "exp"]) == 0
    getattr(sys, name).close()
