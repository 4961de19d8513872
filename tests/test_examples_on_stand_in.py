"""Every example program with ``--device cuda`` on the stand-in for CuPy: nothing may mix in NumPy.

A program must really compute there, which the stand-in's list of copies and waits shows, and end
with what the CPU gives. The parts of the programs are tried in test_programs_on_stand_in.py.
"""

import importlib
import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.finetuning.test_classification import NAMES, toy_messages
from tests.stand_in_gpu import MODULE, stand_in_gpu
from tests.test_programs_on_stand_in import TOKENIZER, gpt, on_device
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.commands import gradcheck
from tinygrad_llm.data.templates import CHAT
from tinygrad_llm.explain import proof
from tinygrad_llm.finetuning import base_model, classification
from tinygrad_llm.finetuning.base_model import SMALL, pretrain
from tinygrad_llm.finetuning.classifier_folder import Classifier
from tinygrad_llm.finetuning.conversation import save_assistant
from tinygrad_llm.pretrained.safetensors_file import SafetensorsFile


@pytest.fixture
def gpu(monkeypatch):
    with stand_in_gpu(monkeypatch) as synchronizations:
        yield synchronizations


def program(name):
    return importlib.import_module(f"tinygrad_llm.commands.{name}").main


@pytest.mark.parametrize(
    "flags",
    [
        ["--dtype", "float32", "--dropout", "0.1", "--accumulate", "2"],
        ["--dtype", "bfloat16", "--recompute"],
        ["--dtype", "float16"],
    ],
)
def test_train_resume_and_generate(gpu, flags, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ml_dtypes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinygrad_llm.training.steps.prefetch.cuda_module", lambda: MODULE)
    sizes = "--n-layer 1 --n-head 2 --n-embd 16 --context-length 16 --batch-size 2".split()
    train = program("train")
    where = ["--device", "cuda", "--no-graph", "--out", "run", *sizes, *flags]
    assert train([*where, "--preset", "tiny", "--steps", "3", "--eval-every", "2"]) == 0
    assert train([*where, "--preset", "tiny", "--steps", "5", "--resume"]) == 0
    assert program("generate")(["run", "--device", "cuda", "--tokens", "4"]) == 0
    assert "step" in capsys.readouterr().out


@pytest.fixture
def base(tmp_path, monkeypatch):
    """A folder with a tiny untrained model, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{label},{text}" for text, label in zip(*toy_messages(30, 0), strict=True)]
    Path("messages.csv").write_text("\n".join(["label,text", *rows]), encoding="utf-8")
    save_assistant("base", gpt(context=160).eval(), TOKENIZER, CHAT)
    return "base"


# A learning rate so small that the rounding of the devices cannot grow.
ONE_EPOCH = ["--epochs", "1", "--seed", "1", "--learning-rate", "1e-3"]
SPAM = ["--sets", "balanced", "--data", "messages.csv", *ONE_EPOCH, "--trainable"]
LORA = ["--trainable", "lora"]
TUNING = [
    ("finetune.spam", [*SPAM, "last-block", "lora", "--class-weights"], "balanced"),
    ("finetune.spam", [*SPAM, "all", "--pooling", "last", "--language-weight", "0"], "balanced"),
    ("finetune.instructions", [*ONE_EPOCH, "--answers", "2", "--max-new-tokens", "3"], ""),
    ("finetune.instructions", [*ONE_EPOCH, "--answers", "1", "--packing", *LORA], ""),
    ("finetune.preferences", [*ONE_EPOCH, "--first-epochs", "1", *LORA], ""),
]


@pytest.mark.parametrize(("name", "flags", "folder"), TUNING)
def test_tuning_programs_end_with_the_weights_of_the_cpu(gpu, base, name, flags, folder):
    main, found = program(name), []
    for device in ("cpu", "cuda"):
        gpu.clear()
        where = ["--device", device, "--no-graph", "--out", device]
        assert main(["--base", base, *flags, *where]) == 0
        assert bool(gpu) == (device == "cuda"), "where it computed"
        model = tg.nn.GPT.from_pretrained(Path(device, folder))
        found.append(np.concatenate([p.data.ravel() for p in model.parameters()]))
    np.testing.assert_allclose(*found, atol=1e-3)


@pytest.mark.parametrize(
    ("name", "context"), [("finetune.spam", 20), ("finetune.instructions", 128)]
)
def test_tuning_programs_pretrain_on_the_device(gpu, base, monkeypatch, name, context):
    """In small, from few texts, and without the CUDA graph, which the stand-in has not."""
    small = replace(SMALL, n_layer=1, n_embd=16, vocab_size=280, context_length=context)
    trained = []

    def watched(*args, **more):
        trained.append(pretrain(*args, **more))
        return trained[-1]

    main = program(name)
    monkeypatch.setattr(base_model.corpora, "load", lambda _: [])
    monkeypatch.setattr(base_model, "SMALL", replace(small, batch_size=2))
    monkeypatch.setattr(base_model, "pretrain", watched)
    flags = [*SPAM, "head"] if name == "finetune.spam" else [*ONE_EPOCH, "--answers", "1"]
    where = ["--device", "cuda", "--no-graph"]
    assert main([*flags, "--base", "new", "--pretrain-steps", "2", *where]) == 0
    assert on_device(p.data for p in trained[0].model.parameters())


TALKING = {
    "chat": ["base", "--temperature", "0.5", "--max-new-tokens", "6", "--seed", "1"],
    "few_shot": ["base", "--shots", "1"],
    "generate": ["base", "--tokens", "5", "--seed", "2", "--prompt", "Hello"],
    "generate --explain": ["base", "--tokens", "2", "--explain", "--temperature", "0"],
    "generate --beams": ["base", "--tokens", "4", "--beams", "2", "--prompt", "Hello"],
    "generate --perplexity": ["base", "--perplexity", "--prompt", "Hello man, hello"],
    "generate --compare": ["base", "--compare", "other", "--prompt", "Hello man, hello"],
    "finetune.spam --predict": ["--predict", "Win a prize", "Dinner?", "--out", "spam"],
}


@pytest.mark.parametrize("name", TALKING)
def test_programs_say_the_same_on_both_devices(gpu, base, monkeypatch, capsys, name):
    save_assistant("other", gpt(context=160, qkv_bias=False), TOKENIZER, CHAT)
    filtering = classification.TextClassifier(gpt(), 2, generator=Generator(1))
    Classifier(filtering, TOKENIZER, NAMES, 40).save("spam")
    main, shown = program(name.split()[0]), []
    for device in ("cpu", "cuda"):
        monkeypatch.setattr("sys.stdin", io.StringIO("Say hello\n/temperature 0\nAnd now?\n"))
        gpu.clear()
        assert main([*TALKING[name], "--device", device]) == 0
        assert bool(gpu) == (device == "cuda"), "where it computed"
        shown.append(capsys.readouterr().out)
    assert shown[0] == shown[1]
    assert name != "chat" or shown[1].count("model>") == 2


@pytest.mark.parametrize("flags", [[], ["--small-ops", "--dropout", "0.1"]])
def test_study_backprop(gpu, tmp_path, capsys, flags):
    main, losses = program("study"), []
    small = "--steps 2 --layers 1 --heads 2 --width 8 --context 4".split()
    for device in ("cpu", "cuda"):
        page = tmp_path / f"{device}.html"
        gpu.clear()
        assert main([*small, *flags, "--out", str(page), "--device", device]) == 0
        assert bool(gpu) == (device == "cuda")
        assert page.stat().st_size > 50_000
        losses.append(re.findall(r"loss (\d+\.\d+)", capsys.readouterr().out))
    assert losses[0] == losses[1]
    assert len(losses[1]) == 3


def test_gradcheck_command(gpu, capsys):
    assert gradcheck.main(["--no-gpt", "--device", "cuda"]) == 0
    assert "PASS" in capsys.readouterr().out
    assert gpu
    assert proof.check_gpt(max_elements=3, device="cuda").passed


MISSING = {
    "chat": ["base"],
    "few_shot": ["base"],
    "generate": ["base"],
    "study": [],
    "finetune.preferences": ["--base", "base"],
    "finetune.instructions": ["--base", "base"],
    "finetune.spam": ["--data", "no such file: it is not looked for"],
    "train": ["--preset", "tiny", "--out", "base", "--overwrite"],
    "train by file": ["--config", "cuda.toml", "--out", "base", "--overwrite"],
}


@pytest.mark.parametrize("name", MISSING)
def test_without_cupy_programs_say_so_and_touch_nothing(base, monkeypatch, capsys, name):
    if name == "train by file" and sys.version_info < (3, 11):
        pytest.skip("tomllib")
    monkeypatch.setitem(sys.modules, "cupy", None)
    Path("cuda.toml").write_text('device = "cuda"\n', encoding="utf-8")
    flags = MISSING[name] if "--config" in MISSING[name] else [*MISSING[name], "--device", "cuda"]
    before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
    assert program(name.split()[0])(flags) in (1, 2)
    out, error = capsys.readouterr()
    assert not out
    assert error.count("\n") == 1
    assert "needs CuPy, which is not installed" in error
    assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before


# ---- --dtype bfloat16: the type of weights on a GPU, of operands of products on a CPU ------------

SIZES = "--n-layer 1 --n-head 2 --n-embd 32 --context-length 16 --batch-size 2".split()
PLACES = {"cuda": b"BF16", "cpu": b"F32"}  # the type of the weights, as it is saved
TUNING_IN_BFLOAT16 = {
    "spam": ([*SPAM, "all"], "balanced"),
    "instructions": ([*ONE_EPOCH, "--answers", "1", "--max-new-tokens", "3"], ""),
    "preferences": ([*ONE_EPOCH, "--first-epochs", "1"], ""),
}


def stored(folder):
    """The weights in a folder: their types, and all of them."""
    path = Path(folder) / "model.safetensors"
    kinds = set(re.findall(rb'"dtype":"(\w+)"', path.read_bytes().replace(b" ", b"")))
    file = SafetensorsFile(path)
    return kinds, np.concatenate([file.read(name).ravel() for name in file])


def test_a_run_in_bfloat16_goes_from_a_gpu_to_a_cpu_and_back(gpu, tmp_path, monkeypatch, capsys):
    pytest.importorskip("ml_dtypes")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinygrad_llm.training.steps.prefetch.cuda_module", lambda: MODULE)
    flags = ["--out", "run", "--preset", "tiny", *SIZES, "--dtype", "bfloat16", "--no-graph"]
    for steps, device in ((2, "cuda"), (4, "cpu"), (6, "cuda")):
        words = [*flags, "--device", device, "--steps", str(steps)]
        assert program("train")([*words, *(["--resume"] if steps > 2 else [])]) == 0
        assert stored("run/last")[0] == {PLACES[device]}
        assert bool(re.search("bfloat16.* CPU", capsys.readouterr().out)) == (device == "cpu")


@pytest.mark.parametrize("task", TUNING_IN_BFLOAT16)
def test_tunings_learn_in_the_type_of_their_device(gpu, base, task):
    pytest.importorskip("ml_dtypes")
    flags, folder = TUNING_IN_BFLOAT16[task]
    found = []
    for device, kind in PLACES.items():
        where = ["--device", device, "--no-graph", "--out", device, "--dtype", "bfloat16"]
        assert program(f"finetune.{task}")([*flags, "--base", base, *where]) == 0
        kinds, weights = stored(Path(device, folder))
        assert kinds == {kind}
        found.append(weights)
    assert np.abs(found[0] - found[1]).mean() < 3e-3


@pytest.mark.parametrize("words", [["generate", "base", "--tokens", "3"], ["few_shot", "base"]])
def test_programs_open_models_in_the_type_of_the_device(gpu, base, monkeypatch, words):
    pytest.importorskip("ml_dtypes")
    main, opened = program(words[0]), []
    module = sys.modules[main.__module__]
    real = module.open_checkpoint
    monkeypatch.setattr(module, "open_checkpoint", lambda *a: opened.append(real(*a)) or opened[-1])
    assert main([*words[1:], "--device", "cuda", "--dtype", "bfloat16"]) == 0
    assert {p.data.dtype.name for p in opened[0][0].parameters()} == {"bfloat16"}
