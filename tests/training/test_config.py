"""Settings: presets, files, flags, their order, and the sentences about mistakes."""

from __future__ import annotations

import re
import sys
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm import hints
from tinygrad_llm.commands.flags import Parser
from tinygrad_llm.commands.program import parse
from tinygrad_llm.errors import ConfigError, MissingDependencyError
from tinygrad_llm.training.settings.config import BITS, FIXED, HARMLESS, SAME_TEXT, TrainConfig
from tinygrad_llm.training.settings.files import read_settings
from tinygrad_llm.training.settings.flags import (
    add_settings,
    add_sources,
    as_toml,
    chosen_settings,
    describe,
)
from tinygrad_llm.training.settings.presets import PRESETS

tomllib = pytest.importorskip("tomllib") if sys.version_info >= (3, 11) else None


def settings_from(*argv):
    parser = Parser("program", None)
    add_sources(parser)
    add_settings(parser)
    return TrainConfig.from_dict(chosen_settings(parse(parser, argv)))


def test_flags_win_over_file_over_preset_over_default(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text('steps = 7\n[model]\nn_layer = 3\ndata = ["a.txt"]\n', encoding="utf-8")
    config = settings_from("--preset", "tiny", "--config", str(path), "--steps", "9")
    assert config.steps == 9
    assert config.n_layer == 3
    assert config.data == ("a.txt",)
    assert config.n_embd == PRESETS["tiny"]["n_embd"]
    assert config.seed == TrainConfig().seed


def test_every_setting_has_a_flag_with_help_and_default(capsys):
    parser = Parser("x", None)
    add_settings(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for item in fields(TrainConfig):
        assert "--" + item.name.replace("_", "-") in shown
        assert item.metadata["resume"] in (FIXED, SAME_TEXT, HARMLESS, BITS)
        if item.default not in ("", ()):
            assert (
                "default" in item.metadata["help"]
                or f"(default: {item.default}" in shown
                or (isinstance(item.default, tuple))
            )


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_valid(name):
    config = TrainConfig.from_dict(PRESETS[name])
    assert config.n_embd % config.n_head == 0


def test_small_writes_out_the_defaults():
    assert TrainConfig.from_dict(PRESETS["small"]) == TrainConfig()


def test_124m_is_gpt2():
    c = TrainConfig.from_dict(PRESETS["124m"])
    assert (c.n_layer, c.n_head, c.n_embd, c.context_length) == (12, 12, 768, 1024)
    assert (c.batch_size, c.accumulate) == (12, 40)  # nanoGPT's: 491,520 tokens in a step


@given(
    steps=st.integers(1, 10**9),
    rate=st.floats(1e-8, 1.0),
    prompt=st.text(st.characters(blacklist_categories=("Cs",)), max_size=20),
    data=st.lists(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1), min_size=1),
    tie=st.booleans(),
)
@pytest.mark.skipif(tomllib is None, reason="Python 3.10 has no tomllib")
def test_toml_goes_around(steps, rate, prompt, data, tie):
    config = TrainConfig(
        data=tuple(data),
        steps=steps,
        learning_rate=rate,
        min_learning_rate=0.0,
        prompt=prompt,
        tie_weights=tie,
    )
    table = tomllib.loads(as_toml(config))
    flat = {key: value for group in table.values() for key, value in group.items()}
    assert TrainConfig.from_dict(flat) == config


def test_yaml_file(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "run.yaml"
    path.write_text("model:\n  n_layer: 3\nsteps: 7\n", encoding="utf-8")
    assert read_settings(path) == {"n_layer": 3, "steps": 7}


@pytest.mark.parametrize("name", ["run.toml", "run.yaml"])
@pytest.mark.parametrize("value", ["9" * 5000, "[" * 100_000, "2024-02-30", "2024-02-30T25:61:00"])
def test_a_file_of_settings_with_anything_in_it(tmp_path, name, value):
    pytest.importorskip("yaml")
    path = tmp_path / name
    path.write_text(f"steps = {value}\n".replace("=", "=" if "toml" in name else ":"), "utf-8")
    with pytest.raises(ConfigError, match="is not valid"):
        read_settings(path)


@pytest.mark.parametrize("name", ["run.toml", "run.yaml"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0x" + "f" * 5000, "steps is a number of more than 64 bits"),
        ("[1, 0x" + "f" * 5000 + "]", "steps is a number of more than 64 bits"),
        ("[[1, 2]]", "steps holds a table or lists"),
    ],
)
def test_values_that_no_message_could_show(tmp_path, name, value, said):
    pytest.importorskip("yaml")
    path = tmp_path / name
    path.write_text(f"steps = {value}\n".replace("=", "=" if "toml" in name else ":"), "utf-8")
    with pytest.raises(ConfigError, match=said):
        read_settings(path)


def test_lists_of_lists_in_yaml_are_never_written_out(tmp_path):
    """Twelve lines of aliases, each nine times the one before it, are 282 billion words."""
    pytest.importorskip("yaml")
    lines = ["a0: &a0 [x]"]
    lines += [f"a{i + 1}: &a{i + 1} [{', '.join([f'*a{i}'] * 9)}]" for i in range(12)]
    (tmp_path / "run.yaml").write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError, match="a1 holds a table or lists"):
        read_settings(tmp_path / "run.yaml")


@pytest.mark.parametrize(
    "content", ["steps: 5\nsteps: 6", "model:\n  steps: 1\n  steps: 2", "steps: {a: 1}\nsteps: {}"]
)
def test_a_setting_that_stands_twice_in_yaml(tmp_path, content):
    pytest.importorskip("yaml")
    (tmp_path / "run.YAML").write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match="steps stands there twice"):
        read_settings(tmp_path / "run.YAML")


def test_names_of_settings_are_text(tmp_path):
    pytest.importorskip("yaml")
    (tmp_path / "run.yaml").write_text("3: 4\nsteps: 7\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="3 is no setting's name"):
        read_settings(tmp_path / "run.yaml")


@pytest.mark.parametrize(("name", "line"), [("a.toml", "steps = 7"), ("a.yaml", "steps: 7")])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_files_of_other_systems(tmp_path, name, line, mark, end):
    if name == "a.yaml":
        pytest.importorskip("yaml")
    (tmp_path / name).write_bytes(mark + line.encode() + end)
    assert read_settings(tmp_path / name) == {"steps": 7}


def test_settings_in_utf_16_are_told_how_to_be_converted(tmp_path):
    (tmp_path / "a.toml").write_bytes("steps = 7".encode("utf-16"))
    with pytest.raises(ConfigError, match="It looks like utf-16. Convert it first: iconv"):
        read_settings(tmp_path / "a.toml")


def test_yaml_without_pyyaml_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "yaml", None)
    path = tmp_path / "run.yaml"
    path.write_text("steps: 7\n", encoding="utf-8")
    with pytest.raises(MissingDependencyError, match=re.escape(hints.install("yaml"))):
        read_settings(path)


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--stepz", "9"], r"unknown flag --stepz\. Did you mean --steps\?"),
        (["--n-embd", "100", "--n-head", "3"], "n_embd and n_head: 100 is not a multiple of 3"),
        (["--steps", "0"], "steps: expected at least 1, got 0"),
        (["--sample-tokens", "1e9"], "sample_tokens: expected at most 10,000, got 1000000000"),
        (["--dropout", "1.5"], "dropout: expected from 0 up to 1, got 1.5"),
        (["--learning-rate", "1e-5"], "min_learning_rate: 0.0002 is above learning_rate"),
        (["--config", "nowhere.toml"], "nowhere.toml: cannot be read"),
    ],
)
def test_mistakes_on_the_command_line(argv, sentence):
    with pytest.raises(ConfigError, match=sentence):
        settings_from(*argv)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("stepz = 3", r"unknown setting stepz\. Did you mean steps\?"),
        ("steps = 'many'", r"steps must be an integer, got 'many' \(str\)"),
        ("steps = true", "steps must be an integer, got True"),
        ("steps = ", "is not valid TOML"),
        ("steps = 3\n[a]\nsteps = 4", "steps stands there twice"),
    ],
)
@pytest.mark.skipif(tomllib is None, reason="Python 3.10 has no tomllib")
def test_mistakes_in_a_file(tmp_path, content, sentence):
    path = tmp_path / "run.toml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=sentence):
        settings_from("--config", str(path))


def test_describe_names_every_setting():
    shown = describe(TrainConfig())
    assert all(f"{item.name}=" in shown for item in fields(TrainConfig))
    assert max(map(len, shown.splitlines())) <= 100
