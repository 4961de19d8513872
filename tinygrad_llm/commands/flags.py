"""A parser of flags whose errors are one sentence, and which knows what excludes each other."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Callable, Sequence
from typing import NoReturn

from tinygrad_llm.commands.spellings import as_ours, unknown_flag
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.terminal import say

LARGEST = 2**64 - 1  # of whole numbers: more is counted by nothing here, and by no seed


def whole_number(text: str) -> int:
    """``"10000"``, ``"10_000"`` and ``"1e4"`` are the same whole number."""
    try:
        value: float = int(text)
    except ValueError:
        value = number(text, "a whole number")
    if value != int(value):
        raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}")
    if abs(value) > LARGEST:
        raise argparse.ArgumentTypeError(f"expected a whole number below 2**64, got {text!r}")
    return int(value)


def whole(low: int, high: int | None = None) -> Callable[[str], int]:
    """A type for a flag: a whole number from ``low`` on, or to ``high``."""
    expected = f"at least {low}" if high is None else f"{low} to {high}"

    def whole_within(text: str) -> int:
        value = whole_number(text)
        if value < low or (high is not None and value > high):
            raise argparse.ArgumentTypeError(f"expected {expected}, got {text}")
        return value

    return whole_within


count = whole(1)
seed = whole(0, LARGEST)  # from which random numbers are made


def number(text: str, kind: str = "a number") -> float:
    """A finite number."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"expected {kind}, got {text!r}")
    return value


def within(low: float, high: float = math.inf, above: bool = False) -> Callable[[str], float]:
    """A type for a flag: a number from ``low`` (or ``above`` it) to ``high``."""
    bounds = f"{'above' if above else 'at least'} {low:g}"
    bounds += "" if math.isinf(high) else f" and at most {high:g}"

    def number_within(text: str) -> float:
        value = number(text)
        if not low <= value <= high or (above and value == low):
            raise argparse.ArgumentTypeError(f"expected a number, {bounds}, got {text}")
        return value

    return number_within


rate = within(0, above=True)


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

    def _print_message(self, message: str, file: object = None) -> None:
        """argparse prints its help by this, and would be silent where the output is full."""
        say(message, end="")

    def error(self, message: str) -> NoReturn:
        """argparse calls this with what is wrong."""
        sentence = message.replace("argument -", "-").rstrip(".")
        sentence = re.sub(r"invalid choice: (.*?) \(choose from (.*)\)", _choices, sentence)
        sentence = re.sub(r"ignored explicit argument (.*)", r"takes no value, got \1", sentence)
        raise ConfigError(f"{sentence}. `--help` lists all.")


def _choices(found: re.Match[str]) -> str:
    got = found[1] if found[1] in ("''", '""') else found[1].replace("'", "")
    return f"expected one of {found[2]}, ".replace("'", "") + f"got {got}"
