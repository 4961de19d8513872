"""One process of bench_generate.py: answers requests to generate, ours or transformers'.

Each line on standard input is a request {"batch": 1, "prompt": 128, "new": 64}; the answer, one
line too, says how long the prompt and how long the new tokens took, and which tokens came out.
The first line of output, before any request, says how long loading took.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from train_sizes import peak_megabytes


class Loaded(NamedTuple):
    """A model that is ready.

    Attributes:
        generate: (ids (B, T), n) -> n times the new tokens (B,).
        logits: ids (B, T) -> (B, T, vocabulary).
        instructions: what computes its products.
    """

    generate: Callable[[np.ndarray, int], Iterator[np.ndarray]]
    logits: Callable[[np.ndarray], np.ndarray]
    instructions: str


def prompts(batch: int, length: int, vocab_size: int) -> np.ndarray:
    """Random ids (B, T), the same in every process."""
    return np.random.default_rng(batch).integers(0, vocab_size, (batch, length))


def load_ours(folder: str, device: str, dtype: str) -> Loaded:
    """This project, greedy: in bfloat16 by the setting on a CPU, by the model's type on a GPU."""
    from train_instructions import of_ours

    import tinygrad_llm as tg
    from tinygrad_llm.generation.generate import stream
    from tinygrad_llm.generation.sampling import Sampling

    model = tg.nn.GPT.from_pretrained(folder, device)
    if dtype == "bfloat16" and device == "cpu":
        tg.set_float32_matmul_precision("medium")
    else:
        model.to(dtype)

    def generate(ids: np.ndarray, n_new: int) -> Iterator[np.ndarray]:
        for step in stream(model, ids, n_new, Sampling(temperature=0)):
            yield step.tokens

    def logits(ids: np.ndarray) -> np.ndarray:
        with tg.no_grad():
            return model(ids).numpy()

    return Loaded(generate, logits, of_ours() if device == "cpu" else "")


def load_peer(folder: str, device: str, dtype: str) -> Loaded:
    """The same with transformers: its model and its cache, without the costs of its generate()."""
    import torch
    from transformers import GPT2LMHeadModel

    torch.set_grad_enabled(False)
    model = GPT2LMHeadModel.from_pretrained(folder).to(device, getattr(torch, dtype)).eval()

    def generate(ids: np.ndarray, n_new: int) -> Iterator[np.ndarray]:
        newest, cache = torch.from_numpy(ids).to(device), None
        for _ in range(n_new):
            out = model(newest, past_key_values=cache, use_cache=True, logits_to_keep=1)
            newest, cache = out.logits[:, -1:].argmax(-1), out.past_key_values
            yield newest[:, 0].cpu().numpy()

    def logits(ids: np.ndarray) -> np.ndarray:
        return model(torch.from_numpy(ids).to(device)).logits.float().cpu().numpy()

    processor = torch.backends.cpu.get_cpu_capability()
    return Loaded(generate, logits, f"ATen {processor}" if device == "cpu" else "")


def main(who: str, folder: str, device: str, clock_name: str, dtype: str) -> None:
    """Load, then answer requests until standard input ends; the clock is one of `time`'s."""
    clock = getattr(time, clock_name)
    start = time.perf_counter()
    model = (load_ours if who == "ours" else load_peer)(folder, device, dtype)
    loaded = time.perf_counter() - start
    vocab_size = model.logits(np.zeros((1, 1), np.int64)).shape[-1]
    check = model.logits(prompts(2, 24, vocab_size))[:, ::6, ::97]
    told = {"load_s": loaded, "logits": check.tolist(), "instructions": model.instructions}
    answer(told)
    for line in sys.stdin:
        request = json.loads(line)
        times = [clock()]
        tokens = []
        ids = prompts(request["batch"], request["prompt"], vocab_size)
        for new in model.generate(ids, request["new"]):
            times.append(clock())
            tokens.append(new.tolist())
        steps = np.diff(times)
        answer(
            {
                "seconds": {"prefill": steps[0], "decode": float(np.median(steps[1:]))},
                "tokens": tokens[:8],
                "peak_mb": peak_megabytes(),
            }
        )


def answer(content: Mapping[str, object]) -> None:
    """One line of JSON."""
    print(json.dumps(content), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:6])
