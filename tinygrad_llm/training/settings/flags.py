"""Command-line flags for every setting, and where the settings of a run come from.

A new run:    defaults  <  --preset  <  --config FILE  <  flags
A resumed one: what the checkpoint says  <  --preset  <  --config FILE  <  flags
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, fields
from typing import Any

from tinygrad_llm.control_characters import one_line
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.training.settings.config import BITS, FIXED, HARMLESS, SAME_TEXT, TrainConfig
from tinygrad_llm.training.settings.files import read_settings, to_toml
from tinygrad_llm.training.settings.presets import PRESETS, preset

_MEANS = {
    BITS: "the weights will differ from those of an undisturbed run",
    HARMLESS: "harmless",
    SAME_TEXT: "harmless if the text is the same, which is checked",
}


def add_settings(parser: argparse.ArgumentParser, title: str = "{}") -> None:
    """Add one flag per setting of `TrainConfig`, in groups, each with help and default.

    Flags that are not given are absent from the parsed arguments, so that a preset or a file can
    decide instead.
    """
    groups: dict[str, Any] = {}
    for item in fields(TrainConfig):
        name = item.metadata["group"]
        group = groups.setdefault(name, None) or parser.add_argument_group(title.format(name))
        groups[name] = group
        group.add_argument("--" + item.name.replace("_", "-"), **_flag(item))


def _flag(item: Field) -> dict[str, Any]:
    shown = " ".join(item.default) if isinstance(item.default, tuple) else item.default
    text = f"{item.metadata['help']} (default: {shown})" if shown != "" else item.metadata["help"]
    flag: dict[str, Any] = {"default": argparse.SUPPRESS, "help": text, "dest": item.name}
    if type(item.default) is bool:
        return {**flag, "action": argparse.BooleanOptionalAction}
    if item.metadata.get("many"):
        return {**flag, "nargs": "+", "metavar": "NAME"}
    kind: Callable[[str], object] = type(item.default)
    flag |= {"type": kind, "choices": item.metadata.get("choices")}
    if flag["choices"] is None:
        flag["metavar"] = {int: "N", float: "X", str: "TEXT"}[type(item.default)]
    return flag


def add_sources(parser: argparse.ArgumentParser) -> None:
    """Add ``--preset`` and ``--config``."""
    group = parser.add_argument_group("where settings come from")
    group.add_argument(
        "--preset", choices=list(PRESETS), help="a named set of settings; other flags win over it"
    )
    group.add_argument(
        "--config", metavar="FILE", help="settings from a TOML (or YAML) file; other flags win"
    )


def chosen_settings(arguments: argparse.Namespace) -> dict[str, object]:
    """What preset, file and flags say together, without the defaults.

    Raises:
        ConfigError: the file cannot be used.
    """
    names = {item.name for item in fields(TrainConfig)}
    chosen = preset(arguments.preset) if arguments.preset else {}
    if arguments.config:
        chosen.update(read_settings(arguments.config))
    chosen.update({k: v for k, v in vars(arguments).items() if k in names})
    return chosen


def differences(before: TrainConfig, chosen: Mapping[str, object]) -> list[str]:
    """Sentences about settings that differ from those of the run that is resumed.

    Raises:
        ConfigError: a setting differs that cannot be changed within a run.
    """
    old, new = before.to_dict(), TrainConfig.from_dict({**before.to_dict(), **chosen}).to_dict()
    changed = [item for item in fields(TrainConfig) if old[item.name] != new[item.name]]
    fixed = [item.name for item in changed if item.metadata["resume"] == FIXED]
    if fixed:
        listed = "; ".join(f"{name}: {old[name]!r} -> {new[name]!r}" for name in fixed)
        raise ConfigError(
            f"--resume: these settings cannot change within a run ({listed}). Leave them out, or "
            "begin a new run in another folder with --out."
        )
    return [
        f"{item.name}: {old[item.name]!r} -> {new[item.name]!r} ({_MEANS[item.metadata['resume']]})"
        for item in changed
    ]


def as_toml(config: TrainConfig) -> str:
    """The settings as a TOML file that ``--config`` reads."""
    groups: dict[str, dict[str, object]] = {}
    values = config.to_dict()
    for item in fields(TrainConfig):
        groups.setdefault(item.metadata["group"], {})[item.name] = values[item.name]
    return to_toml(groups)


def describe(config: TrainConfig, width: int = 100) -> str:
    """The settings for people: one paragraph per group."""
    lines = []
    values = config.to_dict()
    groups: dict[str, list[str]] = {}
    for item in fields(TrainConfig):
        value = values[item.name]
        shown = " ".join(value) if isinstance(value, list) else value
        groups.setdefault(item.metadata["group"], []).append(f"{item.name}={one_line(shown)}")
    for group, settings in groups.items():
        lines += _wrapped(f"  {group:<13}", settings, width)
    return "\n".join(lines)


def _wrapped(head: str, words: Sequence[str], width: int) -> list[str]:
    lines, line = [], head
    for word in words:
        if len(line) + len(word) + 1 > width and line.strip() != head.strip():
            lines.append(line)
            line = " " * len(head)
        line += " " + word
    return [*lines, line]
