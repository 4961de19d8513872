"""200 training steps on a GPU beside the same ones on the CPU in float32: one table of losses.

    python benchmarks/gpu_losses.py [FOLDER]          # FOLDER gets losses.jsonl, a row per trainer

A GPT of 0.8 million parameters learns the bytes of the Python manual from the same weights and
batches, by the trainer that runs op by op and by the one that replays a CUDA graph. In float32 the
two differ from the CPU by the order of their sums; in bfloat16 by its 8 bits. What grows from step
to step is a fault, what stays is rounding.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from harness import TINY, Report
from tqdm import tqdm

import tinygrad_llm as tg
from tinygrad_llm.data import corpora
from tinygrad_llm.data.loader import BatchLoader
from tinygrad_llm.data.sliding_window import TokenDataset
from tinygrad_llm.training.loop_settings import LoopSettings
from tinygrad_llm.training.steps.captured import CapturedStep
from tinygrad_llm.training.steps.eager import EagerStep
from tinygrad_llm.training.trainer import Trainer

STEPS = 4 if TINY else 200
CONTEXT, LAYERS, HEADS, WIDTH, BATCH = (8, 1, 2, 16, 2) if TINY else (128, 4, 4, 128, 16)
# In the mean over all steps, of losses that fall from 5.5 to about 2.5.
BOUNDS = {"float32": 2e-3, "bfloat16": 2e-2}
RUNS = (
    ("cpu", "float32", EagerStep),
    ("cuda", "float32", EagerStep),
    ("cuda", "float32", CapturedStep),
    ("cuda", "bfloat16", EagerStep),
    ("cuda", "bfloat16", CapturedStep),
)


def losses(device: str, dtype: str, kind: type[EagerStep], ids: np.ndarray) -> np.ndarray:
    """The loss of each step."""
    tg.manual_seed(0)
    config = tg.nn.GPTConfig(256, CONTEXT, n_layer=LAYERS, n_head=HEADS, n_embd=WIDTH)
    model = tg.nn.GPT(config).to(device).to(dtype)
    optimizer = tg.optim.AdamW(tg.optim.decay_groups(model, 0.1), lr=1e-3)
    loader = BatchLoader(TokenDataset(ids, CONTEXT), BATCH)
    settings = LoopSettings(STEPS, clip=1.0, eval_every=0)
    trainer = Trainer(model, optimizer, loader, settings, stepper=kind())
    bar = tqdm(range(STEPS), desc=f"{device} {dtype} {kind.__name__}", leave=False, disable=None)
    return np.array([trainer.train_step().loss for _ in bar])


def compare(report: Report) -> bool:
    """Print the table; whether all lie within their bounds."""
    text = "\n".join(document.text for document in corpora.load("pydoc"))
    ids = np.frombuffer(text.encode(), np.uint8)
    shown = [0, STEPS // 4 - 1, STEPS // 2 - 1, STEPS - 1]
    print(
        "loss of step"
        + " " * 22
        + "".join(f"{i + 1:9}" for i in shown)
        + "   off by, mean     worst"
    )
    good, on_cpu = True, np.zeros(0)
    for device, dtype, kind in RUNS:
        found = losses(device, dtype, kind, ids)
        on_cpu = on_cpu if on_cpu.size else found
        gap = np.abs(found - on_cpu)
        within = bool(gap.mean() <= BOUNDS[dtype])
        good &= within
        print(
            f"{device:6}{dtype:10}{kind.__name__:18}"
            + "".join(f"{found[i]:9.4f}" for i in shown)
            + f"{gap.mean():15.1e}{gap.max():10.1e}{'' if within else '  TOO FAR'}",
            flush=True,
        )
        report.write(_row(device, dtype, kind, found, gap))
    return good


def _row(
    device: str, dtype: str, kind: type[EagerStep], found: np.ndarray, gap: np.ndarray
) -> dict[str, object]:
    return {
        "op": f"losses of {STEPS} steps",
        "device": device,
        "dtype": dtype,
        "trainer": kind.__name__,
        "losses": [round(float(x), 6) for x in found],
        "mean_gap": float(gap.mean()),
        "worst_gap": float(gap.max()),
    }


def main(arguments: list[str]) -> int:
    """0 when every trainer agrees with the CPU."""
    if arguments and arguments[0].startswith("-"):
        print(__doc__)
        return 0
    report = Report(Path(arguments[0]) / "losses.jsonl" if arguments else None)
    return 0 if compare(report) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
