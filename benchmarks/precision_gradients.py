"""How exact the gradients of a training step are: in float32 and bfloat16, against float64.

    python benchmarks/precision_gradients.py                 # sizes of bench_train.py: b
    python benchmarks/precision_gradients.py --size d --all  # a line for every parameter
    python benchmarks/precision_gradients.py --after 50      # of weights that were trained a little
    python benchmarks/precision_gradients.py --out FILE      # JSON lines as well

The same weights and the same batch, the bytes of the Python manual, go through the model in each
precision. What is printed is ||gradient - exact|| / ||exact|| of each parameter, where "exact" is
this project in float64. PyTorch stands beside it where it is installed: float32, and autocast to
bfloat16.

Where bfloat16 does not pay, TINYGRAD_LLM_MATRIX_UNITS=on computes from it all the same.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from harness import Report, relative_error
from train_instructions import of_ours
from train_sizes import BETAS, LR, SIZES, WEIGHT_DECAY, Size

import tinygrad_llm as tg
from tinygrad_llm.backend import matrix_units
from tinygrad_llm.data import corpora

Batch = tuple[np.ndarray, np.ndarray]  # inputs and targets (B, T)
Arrays = dict[str, np.ndarray]  # by the names of our parameters
EXACT, OURS, OURS_BF16 = "float64", "float32", "bf16"
TORCH, TORCH_BF16 = "torch float32", "torch bf16"
BYTES = 256
# PyTorch's model of train_torch.py has names of its own.
OUR_NAMES = {
    r"^tokens\.": "token_embedding.",
    r"^positions\.": "position_embedding.",
    r"\.(qkv|projection)\.": r".attention.\1.",
    r"\.(expand|project)\.": r".feed_forward.\1.",
    r"^norm\.": "final_norm.",
}


@dataclass(frozen=True)
class Gradients:
    """What one precision gave: the loss, and a gradient for each parameter."""

    loss: float
    of: Arrays


class Batches:
    """Random windows of the Python manual, as bytes."""

    def __init__(self, size: Size, seed: int = 0) -> None:
        text = "\n".join(document.text for document in corpora.load("pydoc"))
        self.ids = np.frombuffer(text.encode(), np.uint8).astype(np.int64)
        self.size, self.rng = size, np.random.default_rng(seed)

    def draw(self) -> Batch:
        """Inputs and targets (B, T)."""
        starts = self.rng.integers(0, len(self.ids) - self.size.context, self.size.batch)
        windows = np.stack([self.ids[i : i + self.size.context + 1] for i in starts])
        return windows[:, :-1].copy(), windows[:, 1:].copy()


def new_model(size: Size, weights: Arrays | None = None, dtype: str = "float32") -> tg.nn.GPT:
    """A model, with these weights where they are given."""
    tg.manual_seed(0)
    config = tg.nn.GPTConfig(size.vocabulary, size.context, size.n_layer, size.n_head, size.n_embd)
    model = tg.nn.GPT(config).to(dtype)
    if weights is not None:
        model.load_state_dict({name: w.astype(dtype) for name, w in weights.items()})
    return model


def trained(size: Size, batches: Batches, steps: int) -> Arrays:
    """The weights after some steps in float32; the first ones after none."""
    model = new_model(size)
    optimizer = tg.optim.AdamW(model, lr=LR, betas=BETAS, weight_decay=WEIGHT_DECAY)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(*batches.draw()).backward()
        optimizer.step()
    return {name: p.numpy().copy() for name, p in model.named_parameters()}


def ours(size: Size, weights: Arrays, batch: Batch, dtype: str) -> Gradients:
    """This project: float64, float32, or bfloat16 operands with float32 around them."""
    with tg.float32_matmul_precision("medium" if dtype == OURS_BF16 else "highest"):
        model = new_model(size, weights, EXACT if dtype == EXACT else "float32")
        loss = model.loss(*batch)
        loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return Gradients(loss.item(), found)


def of_torch(size: Size, weights: Arrays, batch: Batch, bf16: bool) -> Gradients:
    """PyTorch: float32, or autocast to bfloat16."""
    import torch
    from train_torch import GPT

    model = GPT(size)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(weights[our_name(name)]))
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = model(*map(torch.from_numpy, batch))
    loss.backward()
    found = {our_name(name): p.grad.numpy() for name, p in model.named_parameters()}
    return Gradients(loss.item(), found)


def our_name(theirs: str) -> str:
    """The name that our model gives to a parameter of train_torch.py's."""
    for pattern, name in OUR_NAMES.items():
        theirs = re.sub(pattern, name, theirs)
    return theirs


def everything(size: Size, after: int) -> dict[str, Gradients]:
    """The gradients of all precisions that this machine has, the exact ones first."""
    batches = Batches(size)
    weights, batch = trained(size, batches, after), batches.draw()
    found = {dtype: ours(size, weights, batch, dtype) for dtype in (EXACT, OURS)}
    if not matrix_units.found().why_not:
        found[OURS_BF16] = ours(size, weights, batch, OURS_BF16)
    if importlib.util.find_spec("torch"):
        found[TORCH] = of_torch(size, weights, batch, bf16=False)
        found[TORCH_BF16] = of_torch(size, weights, batch, bf16=True)
    return found


def errors_of(found: Mapping[str, Gradients]) -> dict[str, dict[str, float]]:
    """Relative error by precision and parameter; "all" is that of the whole gradient."""
    exact = found[EXACT].of
    errors = {}
    for precision, gradients in found.items():
        if precision == EXACT:
            continue
        errors[precision] = {
            name: relative_error(gradients.of[name], dy) for name, dy in exact.items()
        }
        flat, flat_exact = (
            np.concatenate([arrays[name].ravel() for name in exact])
            for arrays in (gradients.of, exact)
        )
        errors[precision]["all"] = relative_error(flat, flat_exact)
    return errors


def grouped(errors: dict[str, float]) -> dict[str, float]:
    """The largest error among the blocks, by the parameter's name within a block."""
    found: dict[str, float] = {}
    for name, error in errors.items():
        kind = re.sub(r"^blocks\.\d+\.", "blocks.*.", name)
        found[kind] = max(found.get(kind, 0.0), error)
    return found


def print_table(found: Mapping[str, Gradients], each: bool) -> None:
    """A row for each parameter, or for each kind with the worst of its blocks."""
    errors = errors_of(found)
    shown = {p: of if each else grouped(of) for p, of in errors.items()}
    heading = "relative error" if each else "relative error, the worst block's"
    print(f"\n{heading:40}" + "".join(f"{precision:>15}" for precision in shown))
    for name in next(iter(shown.values())):
        if name != "all":
            print(f"  {name:38}" + "".join(f"{of[name]:15.1e}" for of in shown.values()))
    by_parameter = [[e for name, e in of.items() if name != "all"] for of in errors.values()]
    print(f"  {'median':38}" + "".join(f"{np.median(of):15.1e}" for of in by_parameter))
    print(f"  {'largest':38}" + "".join(f"{max(of):15.1e}" for of in by_parameter))
    print(f"  {'whole gradient':38}" + "".join(f"{of['all']:15.1e}" for of in errors.values()))
    gaps = (abs(found[precision].loss / found[EXACT].loss - 1) for precision in errors)
    print(f"  {'loss':38}" + "".join(f"{gap:15.1e}" for gap in gaps))


def main(arguments: list[str] | None = None) -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=SIZES, default="b", help="of bench_train.py (default: b)")
    parser.add_argument("--after", type=int, default=0, help="training steps before (default: 0)")
    parser.add_argument("--all", action="store_true", help="a line for every parameter")
    parser.add_argument("--out", metavar="FILE", help="append JSON lines to this file")
    options = parser.parse_args(arguments)
    size = replace(SIZES[options.size], vocabulary=max(BYTES, SIZES[options.size].vocabulary))
    print(f"({options.size}) {size.title}; after {options.after} steps")
    if why_not := matrix_units.found().why_not:
        print(f"ours in bf16 is left out. {why_not}")
    else:
        with tg.float32_matmul_precision("medium"):
            print(f"ours in bf16: {of_ours()}")
    found = everything(size, options.after)
    print_table(found, options.all)
    report = Report(options.out)
    for precision, errors in errors_of(found).items():
        about = {"op": "gradients", "precision": precision, "size": options.size}
        report.write({**about, "after": options.after, "errors": errors})
    return 0


if __name__ == "__main__":
    sys.exit(main())
