"""Flags as nanoGPT, Hugging Face's scripts and others spell them, and what they are called here.

`SAME` holds the names that mean exactly the same: they are read as ours. For the others there is no
such flag; `INSTEAD` says which one comes nearest. Both are answers only for a program that has the
flag which they name.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from tinygrad_llm.errors import did_you_mean

_OTHER_NAMES = {
    "--learning-rate": "lr base-lr max-lr",
    "--min-learning-rate": "min-lr lr-min",
    "--steps": "max-iters max-steps num-steps n-steps iters iterations num-iterations train-steps",
    "--context-length": "block-size seq-len seq-length sequence-length max-seq-len max-seq-length "
    "ctx-len ctx-length context-size context-len n-ctx n-positions max-position-embeddings",
    "--batch-size": "bs micro-batch-size per-device-train-batch-size train-batch-size",
    "--accumulate": "gradient-accumulation-steps grad-accum grad-accum-steps accumulation-steps "
    "accumulate-grad-batches",
    "--warmup": "warmup-iters warmup-steps lr-warmup-steps num-warmup-steps",
    "--schedule": "lr-schedule lr-scheduler lr-scheduler-type scheduler",
    "--clip": "grad-clip max-grad-norm gradient-clip-val clip-grad clip-grad-norm",
    "--beta1": "adam-beta1",
    "--beta2": "adam-beta2",
    "--weight-decay": "wd",
    "--n-layer": "n-layers num-layers num-hidden-layers layers depth n-blocks",
    "--n-head": "n-heads num-heads num-attention-heads heads",
    "--n-embd": "n-embed emb-dim embed-dim embedding-dim hidden-size d-model dim width",
    "--dropout": "drop-rate dropout-rate drop",
    "--tie-weights": "weight-tying tie-word-embeddings tied-embeddings",
    "--recompute": "gradient-checkpointing activation-checkpointing",
    "--dtype": "precision torch-dtype",
    "--data": "dataset dataset-name train-file input input-file text-file corpus data-dir "
    "train-data",
    "--validation-fraction": "val-fraction val-split validation-split val-size",
    "--init-from": "model-name-or-path pretrained from-pretrained",
    "--out": "out-dir output output-dir save-dir",
    "--overwrite": "overwrite-output-dir force",
    "--eval-every": "eval-interval eval-steps eval-freq val-every val-interval",
    "--log-every": "log-interval logging-steps log-freq print-every",
    "--sample-every": "sample-interval generate-every",
    "--checkpoint-every": "save-steps save-every save-interval checkpoint-interval ckpt-every",
    "--keep": "save-total-limit keep-last",
    "--patience": "early-stopping-patience",
    "--seed": "random-seed manual-seed",
    "--tokens": "max-new-tokens max-tokens num-tokens n-tokens length n-predict",
    "--prompt": "start starting-text",
    "--top-k": "topk k",
    "--top-p": "topp p nucleus",
    "--min-p": "minp",
    "--temperature": "temp t",
    "--beams": "num-beams n-beams beam-size beam-width",
    "--stop": "stop-token stop-string stop-sequence stop-strings",
    "--repetition-penalty": "repeat-penalty",
}
SAME = {f"--{other}": ours for ours, names in _OTHER_NAMES.items() for other in names.split()}

_EPOCHS = (
    "training is counted in optimizer steps: --steps. An epoch has as many as the text's tokens "
    "divided by --batch-size times --accumulate times --context-length."
)
_PASSES = "fine-tuning is counted in passes over the training set: --epochs."
_WATCH = "--tensorboard writes the figures for TensorBoard; log.jsonl has them as lines of text."
_BF16 = (
    "--dtype bfloat16. On a GPU it is the type of the weights; on a CPU the operands of matrix "
    "products are rounded to it, and weights stay float32."
)
_COMPILE = "nothing is compiled; on a GPU a step is recorded as a CUDA graph, unless --no-graph."
_SEVERAL = "one text is written by a call, another by the next. --seed repeats one."
_RESUME = "--resume goes on from the newest intact checkpoint in --out."
_MODEL = "the model stands by itself, before --prompt: its folder, or a name such as gpt2."
_BASE = "the model to start from is given by --base: its folder, or a name such as gpt2."
_SIZE = "--preset names a size; --n-layer, --n-head and --n-embd set it; --init-from loads a model."

# Several answers: the first whose flags the program has is given.
INSTEAD: dict[str, tuple[str, ...]] = {
    "--epochs": (_EPOCHS,),
    "--num-epochs": (_EPOCHS,),
    "--n-epochs": (_EPOCHS,),
    "--num-train-epochs": (_EPOCHS,),
    "--max-epochs": (_EPOCHS,),
    "--wandb": (_WATCH,),
    "--wandb-log": (_WATCH,),
    "--wandb-project": (_WATCH,),
    "--wandb-run-name": (_WATCH,),
    "--report-to": (_WATCH,),
    "--compile": (_COMPILE,),
    "--torch-compile": (_COMPILE,),
    "--num-samples": (_SEVERAL,),
    "--num-return-sequences": (_SEVERAL,),
    "--do-sample": ("tokens are drawn at random unless --temperature is 0.",),
    "--greedy": ("--temperature 0 always takes the most probable token.",),
    "--max-length": ("--tokens counts the new tokens; the prompt's are not among them.",),
    "--eval-iters": (
        "--eval-tokens says how many validation tokens are looked at: one batch is --batch-size "
        "times --context-length of them.",
    ),
    "--lr-decay-iters": ("the learning rate falls until the last step: --steps, --schedule.",),
    "--decay-lr": ("--schedule constant keeps the learning rate where the warm-up leads.",),
    "--optimizer": ("it is AdamW: --learning-rate, --beta1, --beta2, --weight-decay.",),
    "--bias": ("--qkv-bias concerns queries, keys and values; the other layers have biases.",),
    "--always-save-checkpoint": ("--checkpoint-every N saves at fixed steps.",),
    "--eval-only": (
        "`generate RUN --perplexity --text FILE` measures a text; a run does at --eval-every.",
    ),
    "--resume-from": (_RESUME,),
    "--resume-from-checkpoint": (_RESUME,),
    "--model": (_SIZE, _MODEL, _BASE),
    "--model-type": (_SIZE, _MODEL),
    "--model-size": (_SIZE, _MODEL),
    "--model-path": (_SIZE, _MODEL, _BASE),
    "--model-name-or-path": (_MODEL, _BASE),
    "--init-from": (_MODEL, _BASE),
    "--pretrained": (_MODEL, _BASE),
    "--from-pretrained": (_MODEL, _BASE),
    "--checkpoint": (_RESUME, _MODEL),
    "--ckpt": (_RESUME, _MODEL),
    "--steps": (_PASSES,),
    "--max-steps": (_PASSES,),
    "--max-iters": (_PASSES,),
    "--fp16": ("--dtype float16.",),
    "--half": ("--dtype float16.",),
    "--bf16": (_BF16,),
    "--amp": (_BF16,),
    "--use-amp": (_BF16,),
    "--autocast": (_BF16,),
    "--mixed-precision": (_BF16,),
    "--fp32": ("--dtype float32.",),
    "--cuda": ("--device cuda.",),
    "--gpu": ("--device cuda.",),
    "--use-cuda": ("--device cuda.",),
    "--cpu": ("--device cpu, which is the default.",),
    "--no-cuda": ("--device cpu, which is the default.",),
    "--use-cpu": ("--device cpu, which is the default.",),
    "--backend": ("several processes are started by mpiexec; --device says where they compute.",),
}


def as_ours(words: Sequence[str], known: Collection[str]) -> list[str]:
    """The words with flags spelled as ``known``: ``--n_layer`` and ``--lr`` become ours.

    ``--plot=False`` becomes ``--no-plot``.
    """
    end = list(words).index("--") if "--" in words else len(words)
    return [_as_ours(word, known) for word in words[:end]] + list(words[end:])


def _as_ours(word: str, known: Collection[str]) -> str:
    name, equals, value = word.partition("=")
    if not name.startswith("--"):
        return word
    dashed = name.replace("_", "-")
    meant = next((flag for flag in (name, dashed, SAME.get(dashed, "")) if flag in known), name)
    switched_off = f"--no-{meant[2:]}"
    if switched_off in known and value in ("True", "true", "False", "false"):
        return meant if value in ("True", "true") else switched_off
    return meant + equals + value


def unknown_flag(word: str, known: Collection[str]) -> str:
    """The sentences about a flag, or another word, that a program does not have."""
    name = word.partition("=")[0]
    if not name.startswith("-"):
        return _unknown_word(word, known)
    for answer in INSTEAD.get(name.replace("_", "-"), ()):
        if named_flags(answer) <= set(known):
            return f"there is no {name}: {answer}"
    bare = [flag.lstrip("-") for flag in known]
    near = did_you_mean(name.lstrip("-").replace("_", "-"), bare, before="--")
    return f"unknown flag {name}.{near} `--help` lists all."


def named_flags(answer: str) -> set[str]:
    """The flags of this program that an answer names; those of another command stand in `...`."""
    return set(re.findall(r"--[a-z][a-z0-9-]*", re.sub(r"`[^`]*`", "", answer)))


def _unknown_word(word: str, known: Collection[str]) -> str:
    if word.endswith((".toml", ".yaml", ".yml")) and "--config" in known:
        return f"{word!r} stands without a flag. Settings come from --config {word}."
    for flag, what in (("--data", "A text"), ("--prompt", "A prompt, in quotes,")):
        if flag in known:
            return f"{word!r} stands without a flag. {what} is given by {flag}."
    return f"{word!r} is one word too many. `--help` says what is expected."
