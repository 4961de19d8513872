"""Whatever opens a folder of this package notices a changed byte in any file that it reads."""

import copy
import random

import pytest

from tinygrad_llm import nn, tokenizers
from tinygrad_llm.data.templates import ALPACA
from tinygrad_llm.errors import CheckpointError, ConfigError, TinygradLLMError
from tinygrad_llm.finetuning.adapter import load_adapter, save_adapter
from tinygrad_llm.finetuning.classification import TextClassifier
from tinygrad_llm.finetuning.classifier_folder import Classifier
from tinygrad_llm.finetuning.conversation import load_assistant, save_assistant
from tinygrad_llm.generation.open_checkpoint import open_checkpoint
from tinygrad_llm.nn.saved_model import load_gpt
from tinygrad_llm.training.run.checkpoint import write_checkpoint
from tinygrad_llm.training.run.saved_start import saved_config

MODEL = ("config.json", "model.safetensors", "checksums.json")
TOKENIZER = ("tinygrad_llm_tokenizer.json", "checksums.json")


def classifier_of(gpt, tokenizer):
    module = TextClassifier(copy.deepcopy(gpt), 2)
    return Classifier(module, tokenizer, ("ham", "spam"), 16)


@pytest.fixture
def folders(gpt, tokenizer, tmp_path):
    """One folder of each kind."""
    save_assistant(tmp_path / "assistant", gpt, tokenizer, ALPACA)
    classifier_of(gpt, tokenizer).save(tmp_path / "classifier")
    write_checkpoint(
        tmp_path / "checkpoint", lambda path: nn.save_model(gpt, path, tokenizer), {"step": 3}
    )
    return tmp_path


OPENERS = {
    "from_pretrained": ("assistant", nn.GPT.from_pretrained, MODEL),
    "load_model": ("assistant", nn.load_model, MODEL),
    "load_gpt": ("assistant", load_gpt, MODEL),
    "open_checkpoint": ("assistant", open_checkpoint, (*MODEL, *TOKENIZER)),
    "tokenizer": ("assistant", tokenizers.load, TOKENIZER),
    "assistant": ("assistant", load_assistant, (*MODEL, *TOKENIZER, "assistant.json")),
    "classifier": (
        "classifier",
        Classifier.load,
        (*MODEL, *TOKENIZER, "classifier.json", "classifier_head.safetensors"),
    ),
    "checkpoint": (
        "checkpoint",
        open_checkpoint,
        ("config.json", "model.safetensors", TOKENIZER[0], "training_state.json"),
    ),
    "init_from": ("checkpoint", lambda path: saved_config(str(path)), ("config.json",)),
}


@pytest.mark.parametrize("opener", OPENERS)
def test_a_changed_byte_is_never_read(folders, opener):
    kind, open_it, files = OPENERS[opener]
    folder, rng = folders / kind, random.Random(opener)
    open_it(folder)
    for name in files:
        raw = (folder / name).read_bytes()
        for place in (len(raw) - 3, *(rng.randrange(len(raw) - 2) for _ in range(4))):
            changed = bytes([raw[place] ^ 1 << rng.randrange(8)])
            (folder / name).write_bytes(raw[:place] + changed + raw[place + 1 :])
            with pytest.raises(TinygradLLMError, match=r"is damaged|was saved|cannot|version"):
                open_it(folder)
        (folder / name).write_bytes(raw)
    open_it(folder)


def test_damage_is_read_where_it_was_asked_for(folders, monkeypatch):
    path = folders / "classifier" / "model.safetensors"
    raw = path.read_bytes()
    path.write_bytes(raw[:-3] + bytes([raw[-3] ^ 1]) + raw[-2:])
    with pytest.raises(CheckpointError, match="TINYGRAD_LLM_VERIFY=off"):
        Classifier.load(folders / "classifier")
    Classifier.load(folders / "classifier", verify=False)
    nn.load_model(folders / "classifier", verify=False)
    monkeypatch.setenv("TINYGRAD_LLM_VERIFY", "off")
    Classifier.load(folders / "classifier")


def test_a_save_of_another_kind_takes_the_old_one_away(gpt, tokenizer, folders):
    save_assistant(folders / "classifier", gpt, tokenizer, ALPACA)
    with pytest.raises(CheckpointError, match="holds no classifier"):
        Classifier.load(folders / "classifier")
    gpt.save_pretrained(folders / "assistant")
    assert load_assistant(folders / "assistant").template is None
    tokenizers.CharTokenizer.train("abc").save(folders / "classifier")
    assert not (folders / "classifier" / "merges.txt").exists()


def test_any_changed_byte_of_an_adapter_is_noticed_or_means_nothing(gpt, tmp_path):
    model = copy.deepcopy(gpt)
    nn.apply_lora(model, 2, 8.0, ("attention.qkv",))
    path = save_adapter(model, tmp_path / "a.safetensors")
    raw, rng = path.read_bytes(), random.Random(3)
    places = {*range(8, 700, 5), *(rng.randrange(len(raw)) for _ in range(100))}
    for place in places:
        path.write_bytes(
            raw[:place] + bytes([raw[place] ^ 1 << rng.randrange(8)]) + raw[place + 1 :]
        )
        again = copy.deepcopy(gpt)
        try:
            load_adapter(again, path)
        except (CheckpointError, ConfigError):
            continue
        assert same(model, again), place  # such as the spaces behind the header


def same(one, other):
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all((a.numpy() == b.numpy()).all() for a, b in pairs)


@pytest.mark.parametrize(
    "settings", [{"threshold": float("nan")}, {"max_length": 0}, {"class_names": ("a", "a")}]
)
def test_a_classifier_that_could_not_be_opened_again_is_not_saved(
    gpt, tokenizer, tmp_path, settings
):
    classifier = classifier_of(gpt, tokenizer)
    vars(classifier).update(settings)
    with pytest.raises(ConfigError, match=r"Classifier\.save: \w+ must be"):
        classifier.save(tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_foreign_weights_that_cannot_be_right_are_told(gpt, tmp_path, value):
    model = copy.deepcopy(gpt)
    model.token_embedding.weight.data[1, 2] = value
    model.save_pretrained(tmp_path)
    (tmp_path / "checksums.json").unlink()
    with pytest.warns(UserWarning, match=r"not finite, or beyond 1e\+10, in transformer.wte"):
        nn.GPT.from_pretrained(tmp_path)
