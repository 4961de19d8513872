"""Models of one's own come back bit by bit, by name, or are refused; nothing in a folder is run."""

import json
from dataclasses import dataclass, replace

import numpy as np
import pytest
from own_parts import GatedFeedForward, RMSNorm, RotaryAttention, own_gpt

import tinygrad_llm as tg
from tinygrad_llm import nn
from tinygrad_llm.errors import CheckpointError, ConfigError
from tinygrad_llm.nn import registry

IDS = [[1, 2, 3, 4]]
SIZES = {"vocab_size": 31, "context_length": 16, "n_layer": 2, "n_head": 2, "n_embd": 8}


@dataclass(frozen=True)
class TinyConfig:
    vocab_size: int
    context_length: int
    n_embd: int = 8
    dropout: float = 0.0


class Tiny(nn.Module):
    """No GPT: an embedding, a norm, a buffer."""

    def __init__(self, config):
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.n_embd)
        self.norm = RMSNorm(config.n_embd)
        self.register_buffer("seen", tg.tensor([3]))
        self.out = nn.Linear(config.n_embd, config.vocab_size)

    def forward(self, ids):
        return self.out(self.norm(self.table(ids)))


class RotaryGPT(nn.GPT):
    """A GPT that makes parts of its own."""

    def __init__(self, config):
        super().__init__(config)
        self.position_embedding = None
        for block in self.blocks:
            block.norm1, block.norm2 = RMSNorm(config.n_embd), RMSNorm(config.n_embd)
            block.attention = RotaryAttention(config.n_embd, config.n_head)
            block.feed_forward = GatedFeedForward(config.n_embd)


@pytest.fixture(autouse=True)
def names(monkeypatch):
    """The registry is as it was, afterwards."""
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    nn.register_model("tiny", TinyConfig)(Tiny)
    nn.register_model("rotary")(RotaryGPT)


def make(cls):
    tg.manual_seed(0)
    if cls is Tiny:
        return Tiny(TinyConfig(31, 16))
    return cls(nn.GPTConfig(**SIZES))


@pytest.mark.parametrize("cls", [Tiny, RotaryGPT, nn.GPT])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_saved_and_loaded_is_the_same(cls, dtype, tmp_path):
    model = make(cls).to(dtype).eval()
    state = tg.default_generator().state()
    nn.save_model(model, tmp_path / "a")
    again = nn.load_model(tmp_path / "a")
    assert tg.default_generator().state() == state  # training goes on with the same numbers
    assert type(again) is cls
    assert again.config == model.config
    assert not again.training
    np.testing.assert_array_equal(again(IDS).data, model(IDS).data)
    assert again(IDS).dtype == dtype
    assert set(again.state_dict()) == set(model.state_dict())
    assert (tmp_path / "a" / "config.json").is_file() == (cls is nn.GPT)


def test_a_folder_holds_the_model_that_was_saved_last(tmp_path):
    for cls in (nn.GPT, RotaryGPT, nn.GPT):
        nn.save_model(make(cls), tmp_path)
        assert type(nn.load_model(tmp_path)) is cls


def test_the_file_says_what_it_is(tmp_path):
    nn.save_model(make(Tiny), tmp_path)
    body = json.loads((tmp_path / "model.json").read_text(encoding="utf-8"))
    assert body["model"] == "tiny"
    assert body["config"] == {"vocab_size": 31, "context_length": 16, "n_embd": 8, "dropout": 0.0}
    assert body["parts"]["norm"] == "RMSNorm"


def test_an_unknown_name_imports_nothing_and_says_what_to_do(tmp_path):
    nn.save_model(make(Tiny), tmp_path)
    del registry._KINDS["tiny"]
    path = tmp_path / "model.json"
    body = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**body, "class": "antigravity.Tiny"}), encoding="utf-8")
    (tmp_path / "checksums.json").unlink()
    says = r"holds a 'tiny', saved from antigravity\.Tiny.*register_model\(\"tiny\"\).*--import"
    with pytest.raises(ConfigError, match=says):
        nn.load_model(tmp_path)
    import sys

    assert "antigravity" not in sys.modules


def test_the_class_may_be_given(tmp_path):
    nn.save_model(make(RotaryGPT), tmp_path)
    registry._KINDS.clear()
    assert type(nn.load_model(tmp_path, RotaryGPT)) is RotaryGPT
    with pytest.raises(CheckpointError, match=r"norm1 \(LayerNorm, saved was RMSNorm\)"):
        nn.load_model(tmp_path, nn.GPT)
    with pytest.raises(ConfigError, match="which configuration does Tiny take"):
        nn.load_model(tmp_path, Tiny)


def test_a_changed_gpt_is_not_saved_as_a_plain_one(tmp_path):
    model = own_gpt("float32")
    says = r"position_embedding \(none, not Embedding\).*norm1 \(RMSNorm, not.*save_model"
    for save in (lambda: model.save_pretrained(tmp_path), lambda: nn.save_model(model, tmp_path)):
        with pytest.raises(CheckpointError, match=says):
            save()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: setattr(m.blocks[1].norm2, "eps", 1e-6), r"norm2 \(eps=1e-06, not 1e-05\)"),
        (lambda m: setattr(m.blocks[0].attention, "causal", False), "causal=False, not True"),
        (lambda m: setattr(m, "head", nn.Linear(8, 2)), r"head \(Linear, not none\)"),
        (lambda m: setattr(m.blocks[0], "norm1", lambda x: x), r"norm1 \(none, not LayerNorm\)"),
        (lambda m: m.blocks.append(nn.TransformerBlock(8, 2)), "blocks.2"),
    ],
)
def test_what_makes_a_gpt_another_one_is_named(change, says, tmp_path):
    model = make(nn.GPT)
    change(model)
    with pytest.raises(CheckpointError, match=says):
        model.save_pretrained(tmp_path)


def test_subclasses_and_gpt2s_files(tmp_path):
    class WithHelp(nn.GPT):
        def count(self):
            return self.num_parameters()

    class Louder(nn.GPT):
        def logits(self, hidden):
            return super().logits(hidden) * 2

    make(WithHelp).save_pretrained(tmp_path)
    assert WithHelp.from_pretrained(tmp_path).count() == make(nn.GPT).num_parameters()
    with pytest.raises(CheckpointError, match=r"Louder\.logits"):
        make(Louder).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"blocks.0.attention \(RotaryAttention"):
        RotaryGPT.from_pretrained(tmp_path)
    nn.save_model(make(RotaryGPT), tmp_path / "own")
    with pytest.raises(CheckpointError, match=r"tg\.nn\.load_model"):
        nn.GPT.from_pretrained(tmp_path / "own")


def test_a_class_that_would_not_build_the_model_again_is_refused(tmp_path):
    model = make(RotaryGPT)
    model.blocks[1].feed_forward = nn.FeedForward(8)
    with pytest.raises(ConfigError, match=r"blocks.1.feed_forward \(FeedForward, not Gated"):
        nn.save_model(model, tmp_path)
    tiny = make(Tiny)
    tiny.config = replace(tiny.config, n_embd=np.float32(8))
    with pytest.raises(ConfigError, match="JSON"):
        nn.save_model(tiny, tmp_path)
    tiny.config = None
    with pytest.raises(ConfigError, match=r"Tiny.config must be a TinyConfig"):
        nn.save_model(tiny, tmp_path)
    with pytest.raises(ConfigError, match="Linear has no name to be saved by"):
        nn.save_model(nn.Linear(2, 2), tmp_path)


@pytest.mark.parametrize(
    ("file", "damage", "says"),
    [
        ("model.json", lambda b: b[:40], "no JSON"),
        ("model.json", lambda b: b"{}", "damaged, or no model"),
        ("model.json", lambda b: b.replace(b'"version": 1', b'"version": 9'), "version 9"),
        ("model.json", lambda b: b.replace(b"n_embd", b"width"), "missing settings"),
        ("model.safetensors", lambda b: b[:-1] + b"x", "checksum"),
        ("model.safetensors", None, "is missing"),
    ],
)
def test_damage_is_noticed(file, damage, says, tmp_path):
    """Of an older folder, which has the weights' checksum in model.json; then of a newer one."""
    nn.save_model(make(Tiny), tmp_path)
    path = tmp_path / file
    listed = (tmp_path / "checksums.json").read_bytes()
    body = json.loads((tmp_path / "model.json").read_bytes())
    weights = json.loads(listed)["files"]["model.safetensors"]
    (tmp_path / "model.json").write_text(json.dumps({**body, "weights": weights}, indent=1))
    (tmp_path / "checksums.json").unlink()
    assert type(nn.load_model(tmp_path)) is Tiny
    path.unlink() if damage is None else path.write_bytes(damage(path.read_bytes()))
    with pytest.raises((CheckpointError, ConfigError), match=says):
        nn.load_model(tmp_path)
    (tmp_path / "checksums.json").write_bytes(listed)
    with pytest.raises(CheckpointError, match=rf"{file}: (is|has)"):
        nn.load_model(tmp_path)


def test_names_and_configurations_are_checked_when_registered():
    for name in ("", "a b", "../x", 3):
        with pytest.raises(ConfigError, match="a name is text like"):
            nn.register_model(name)
    with pytest.raises(ConfigError, match="dataclass with vocab_size and context_length"):
        nn.register_model("x", dict)
    with pytest.raises(ConfigError, match="expected a Module class"):
        nn.register_model("x")(int)
    with pytest.raises(ConfigError, match="has this name already"):
        nn.register_model("gpt")(RotaryGPT)
    assert nn.register_model("tiny", TinyConfig)(Tiny) is Tiny  # a notebook's cell, run again
