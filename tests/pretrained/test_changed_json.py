"""Each JSON file that is opened, changed in its meaning: what opens can be used, the rest is told.

Checksums are removed: anybody can do that. Each try has little memory and little time.
"""

import mmap
import random
import shutil
import sys
from pathlib import Path

import pytest
from gpt2_oracle import HPARAMS, random_weights
from json_changes import random_change
from tf_bundle_writer import write_checkpoint

from tests.reliability import saved
from tests.reliability.processes import run
from tinygrad_llm import nn, tokenizers
from tinygrad_llm.data.shards import TokenShards
from tinygrad_llm.generation.generate import generate
from tinygrad_llm.generation.open_checkpoint import open_checkpoint

_MEMORY = 500 << 20  # bytes, besides what the process has
_MANY = 60  # tries of a process, which is what takes time


def _write(folder):
    model, assistant, other, shards = (folder / n for n in ("model", "assistant", "tf", "shards"))
    saved.write("model by name", folder / "named", 1)
    saved.write("classifier", folder / "classifier", 1)
    saved.write("assistant", assistant, 1)
    saved.write("model and tokenizer", model, 1)
    saved.write("shards", shards, 1)
    write_checkpoint(other, random_weights(), HPARAMS)
    for path in folder.rglob("checksums.json"):
        path.unlink()
    shutil.copytree(model, folder / "foreign")
    (folder / "foreign" / "tinygrad_llm_tokenizer.json").unlink()


def _write_and_ask(folder):
    model, tokenizer = open_checkpoint(folder)
    ids = tokenizer.encode("to be")
    return generate(model, [ids], 3, 0.0, vocab_size=tokenizer.vocab_size)[0].tolist()


def _classify(folder):
    return saved.Classifier.load(folder).predict(["call me"])


# File -> what opens it.
FILES = {
    "model/config.json": _write_and_ask,
    "model/tinygrad_llm_tokenizer.json": _write_and_ask,
    "foreign/vocab.json": _write_and_ask,
    "foreign/tokenizer_config.json": _write_and_ask,
    "named/model.json": _write_and_ask,
    "classifier/classifier.json": _classify,
    "assistant/assistant.json": saved.load_assistant,
    "shards/index.json": lambda folder: TokenShards(folder)[:].sum(),
    "shards/tinygrad_llm_tokenizer.json": lambda folder: tokenizers.load(folder).vocab_size,
    "tf/hparams.json": lambda folder: nn.GPT.from_pretrained(folder)([[1, 2]]).shape,
}


def tries_of(name, folder, seeds):
    """Opens a file once for each seed; returns how often it opened. Other errors go through."""
    resource = pytest.importorskip("resource")
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
        most = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + _MEMORY, most))
    path, opened = folder / name, 0
    text = path.read_text(encoding="utf-8")
    for seed in seeds:
        changed = random_change(text, random.Random(seed))
        path.write_bytes(changed.encode("utf-8", "surrogatepass"))
        try:
            FILES[name](path.parent)
            opened += 1
        except saved.tg.errors.TinygradLLMError as error:
            if len(str(error)) > 6000 or "\x1b" in str(error):
                raise ValueError(f"{name}, {seed}: unfit to be read: {error!r:.200}") from error
        except Exception as error:
            raise ValueError(f"{name}, {seed}: {changed[:200]}") from error
    path.write_text(text, encoding="utf-8")
    return opened


def _try(name, folder, seeds):
    ended = run(tries_of, name, folder, seeds, folder=folder, seconds=10 * len(seeds))
    assert ended.clean, ended.raw or ended
    return ended.value


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("json")
    _write(path)
    return path


@pytest.mark.parametrize("name", ["named/model.json", "model/tinygrad_llm_tokenizer.json"])
def test_some_changes(name, folder):
    assert _try(name, folder, range(12)) < 12


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_many_changes_of_every_file(name, folder):
    for first in range(0, 300, _MANY):
        _try(name, folder, range(first, first + _MANY))
