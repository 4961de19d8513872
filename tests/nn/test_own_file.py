"""Whatever stands in model.json: the model, or an error, before memory is taken for it."""

import json
import tracemalloc
from dataclasses import dataclass

import numpy as np
import pytest

from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.nn import registry

ODD = (-1, 0, 10**9, 10**30, 1.5, 1e9, float("nan"), float("inf"), True, None, "", "8", [], {})
SIZES = {"vocab_size": 31, "context_length": 16, "n_layer": 2, "n_head": 2, "n_embd": 8}
_MOST = 50e6  # bytes


@dataclass(frozen=True)
class Unchecked:
    """Looks at nothing, as a reader's own configuration would."""

    vocab_size: int
    context_length: int
    n_layer: int = 2


class Stack(nn.Module):
    """Linear layers, and an array that is made without this package."""

    def __init__(self, config):
        self.config = config
        self.layers = nn.ModuleList(nn.Linear(config.vocab_size, 4) for _ in range(config.n_layer))
        self.scale = nn.Parameter(np.ones(config.context_length, np.float32))


class Named(nn.GPT):
    """A GPT by a name of its own."""


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """The registry is as it was, afterwards."""
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    nn.register_model("stack", Unchecked)(Stack)
    nn.register_model("named")(Named)


def saved(kind, folder):
    """A folder without checksums, and what its model.json says."""
    config = nn.GPTConfig(**SIZES) if kind is Named else Unchecked(31, 16)
    nn.save_model(kind(config), folder)
    (folder / "checksums.json").unlink()
    return json.loads((folder / "model.json").read_text(encoding="utf-8"))


def opened(folder, name):
    """A setting of the model that opens, or the error."""
    try:
        return getattr(nn.load_model(folder).config, name)
    except (CheckpointError, ConfigError) as error:
        return error


def peak_of(action):
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("name", [*SIZES, "dropout", "qkv_bias", "tie_weights"])
def test_every_setting_of_a_gpt(name, value, tmp_path):
    body = saved(Named, tmp_path)
    body["config"][name] = value
    (tmp_path / "model.json").write_text(json.dumps(body), encoding="utf-8")

    said = []
    assert peak_of(lambda: said.append(opened(tmp_path, name))) < _MOST
    assert said[0] == value or str(tmp_path) in str(said[0])


@pytest.mark.parametrize("value", ["10", None, 1.5, -3, [], 10**9, 10**30])
@pytest.mark.parametrize("name", ["vocab_size", "n_layer"])
def test_a_class_that_checks_nothing(name, value, tmp_path):
    body = saved(Stack, tmp_path)
    body["config"][name] = value
    (tmp_path / "model.json").write_text(json.dumps(body), encoding="utf-8")

    def refused():
        with pytest.raises((CheckpointError, ConfigError), match="model.json|class has changed"):
            nn.load_model(tmp_path)

    assert peak_of(refused) < _MOST


def test_a_size_beyond_all_memory_that_the_class_asks_for_itself(tmp_path):
    body = saved(Stack, tmp_path)
    body["config"]["context_length"] = 10**15
    (tmp_path / "model.json").write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"Stack cannot be built .*MemoryError"):
        nn.load_model(tmp_path)


def test_layers_made_in_vain_fit(tmp_path):
    """A class may build its base's layers, replace them, and give them other values."""

    class Wasteful(nn.GPT):
        def __init__(self, config):
            super().__init__(config)
            self.token_embedding = nn.Embedding(config.vocab_size, config.n_embd)
            nn.init.normal_(self.token_embedding.weight)

    nn.register_model("wasteful")(Wasteful)
    model = Wasteful(nn.GPTConfig(20_000, 16, 1, 2, 64))
    nn.save_model(model, tmp_path)
    assert type(nn.load_model(tmp_path)) is Wasteful


@pytest.mark.parametrize("weights", [None, [], 7, "", {"bytes": 3}, {"bytes": [], "sha256": {}}])
def test_an_odd_checksum_of_an_older_folder(weights, tmp_path):
    body = saved(Named, tmp_path)
    (tmp_path / "model.json").write_text(json.dumps({**body, "weights": weights}))
    found = opened(tmp_path, "n_layer")
    assert found == SIZES["n_layer"] or "damaged" in str(found)


def test_messages_have_a_bounded_length(tmp_path):
    body = saved(Named, tmp_path)
    for change in ({"model": "x" * 10**5}, {"version": [1] * 10**5}, {"parts": {"x" * 10**5: 1}}):
        (tmp_path / "model.json").write_text(json.dumps({**body, **change}), encoding="utf-8")
        with pytest.raises((CheckpointError, ConfigError)) as caught:
            nn.load_model(tmp_path)
        assert len(str(caught.value)) < 5000
