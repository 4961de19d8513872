"""A parser of flags whose errors are one sentence, and which knows what excludes each other."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from typing import NoReturn

from tinygrad_llm.commands.spellings import as_ours, unknown_flag
from tinygrad_llm.errors import ConfigError


def whole_number(text: str) -> int:
    """``"10000"``, ``"10_000"`` and ``"1e4"`` are the same whole number."""
    try:
        return int(text)
    except ValueError:
        value = number(text, "a whole number")
    if not value.is_integer():
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    return int(value)


def count(text: str) -> int:
    """A whole number of at least 1."""
    value = whole_number(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, got {text}")
    return value


def number(text: str, kind: str = "a number") -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected {kind}, got {text!r}")
    return value


class Parser(argparse.ArgumentParser):
    """A parser that raises `ConfigError` in place of printing all flags and ending the program."""

    def __init__(self, prog: str, description: str | None) -> None:
        kind = argparse.RawDescriptionHelpFormatter  # lines of the description stay lines
        super().__init__(prog=prog, description=description, formatter_class=kind)
        self.register("type", int, whole_number)
        self.register("type", float, number)
        self._excluded: list[tuple[str, Sequence[str], str]] = []

    def exclude(self, flag: str, others: Sequence[str], why: str) -> None:
        """Refuse ``flag`` together with any of ``others``; ``why`` completes the sentence."""
        self._excluded.append((flag, others, why))

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Parse the words of a command line.

        Raises:
            ConfigError: a flag is unknown, has a wrong value, or excludes another that is there.
        """
        known = self._option_string_actions
        ours = as_ours(words, known)
        arguments, unknown = self.parse_known_args(ours)
        if unknown:
            raise ConfigError(unknown_flag(unknown[0], known))
        self._refuse_what_excludes(self._given(ours))
        return arguments

    def _given(self, words: Sequence[str]) -> set[int]:
        """Which flags stand among the words; argparse takes the beginning of one for the whole."""
        known = self._option_string_actions
        given = set()
        for word in words[: list(words).index("--")] if "--" in words else words:
            name = word.partition("=")[0]
            if name.startswith("--"):
                whole = [name] if name in known else [k for k in known if k.startswith(name)]
                given |= {id(known[k]) for k in whole}
        return given

    def _refuse_what_excludes(self, given: set[int]) -> None:
        known = self._option_string_actions
        for flag, others, why in self._excluded:
            both = [other for other in others if id(known[other]) in given]
            if both and id(known[flag]) in given:
                raise ConfigError(f"{flag} and {both[0]} exclude each other: {why}.")

    def error(self, message: str) -> NoReturn:
        """argparse calls this with what is wrong."""
        sentence = message.replace("argument -", "-").rstrip(".")
        sentence = re.sub(r"invalid choice: (.*?) \(choose from (.*)\)", _choices, sentence)
        sentence = re.sub(r"ignored explicit argument (.*)", r"takes no value, got \1", sentence)
        raise ConfigError(f"{sentence}. `--help` lists all.")


def _choices(found: re.Match[str]) -> str:
    return f"expected one of {found[2]}, got {found[1]}".replace("'", "")
