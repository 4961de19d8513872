"""Settings in files: TOML (and YAML where PyYAML is installed) in, TOML out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tinygrad_llm.data.documents import read_text
from tinygrad_llm.errors import ConfigError, DataError, MissingDependencyError
from tinygrad_llm.hints import install


def read_settings(path: str | Path) -> dict[str, object]:
    """The table of settings in a ``.toml``, ``.yaml`` or ``.yml`` file.

    Settings may stand in sections, such as ``[model]``; the sections' names do not matter.

    Raises:
        ConfigError: no such file, or it cannot be parsed, or one setting stands there twice.
        MissingDependencyError: the format needs a package that is not installed.
    """
    path = Path(path)
    try:
        text = read_text(path)
    except DataError as error:
        raise ConfigError(f"--config {error}") from error
    is_yaml = path.suffix.lower() in (".yaml", ".yml")
    table = _parse_yaml(path, text) if is_yaml else _parse_toml(path, text)
    settings: dict[str, object] = {}
    for key, value in table.items():
        inner = value if isinstance(value, dict) else {key: value}
        strange = [name for name in inner if not isinstance(name, str)]
        if strange:
            raise ConfigError(
                f"--config {path}: {strange[0]!r} is no setting's name, which is text."
            )
        twice = sorted(set(inner) & set(settings))
        if twice:
            raise ConfigError(f"--config {path}: {twice[0]} stands there twice. Remove one.")
        for name, one in inner.items():
            _check_value(f"--config {path}: {name:.60}", one)
        settings.update(inner)
    return settings


def _check_value(place: str, value: object) -> None:
    """Refuse what no setting is, and what a message could not show: a table, a number of pages."""
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, (dict, list)):
            raise ConfigError(f"{place} holds a table or lists; expected one value, or a list.")
        if isinstance(one, int) and one.bit_length() > 64:
            raise ConfigError(f"{place} is a number of more than 64 bits.")


def _parse_toml(path: Path, text: str) -> dict[str, object]:
    try:
        import tomllib
    except ImportError:  # Python 3.10
        import tomli as tomllib  # type: ignore[no-redef, unused-ignore]
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also a number of 5,000 digits
        raise ConfigError(f"--config {path}: is not valid TOML: {error}.") from error


def _parse_yaml(path: Path, text: str) -> dict[str, object]:
    try:
        import yaml
    except ImportError:
        raise MissingDependencyError(
            f"--config {path}: reading YAML needs PyYAML, TOML nothing. {install('yaml')}"
        ) from None
    try:
        table = yaml.safe_load(text)
        nodes = yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # a 30th of February
        raise ConfigError(f"--config {path}: is not valid YAML: {error}.") from error
    if not isinstance(table, dict):
        raise ConfigError(f"--config {path}: expected lines such as `steps: 1000`.")
    for section in [nodes, *(value for _, value in nodes.value)]:
        is_table = isinstance(section, yaml.MappingNode)
        names = [key.value for key, _ in section.value] if is_table else []
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:  # PyYAML takes the last of them, and says nothing
            raise ConfigError(f"--config {path}: {twice} stands there twice. Remove one.")
    return table


def to_toml(groups: Mapping[str, Mapping[str, object]]) -> str:
    """Settings as TOML text, a section per group. Values: strings, numbers, booleans, lists."""
    lines = []
    for group, settings in groups.items():
        lines.append(f"[{group}]")
        lines += [f"{key} = {_toml_value(value)}" for key, value in settings.items()]
        lines.append("")
    return "\n".join(lines)


def _toml_value(value: object) -> str:
    """JSON's spelling of these types is TOML's, but for one character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
