"""Importing is cheap, and everything optional may be absent."""

import subprocess
import sys

OPTIONAL = (
    "torch",
    "cupy",
    "triton",
    "matplotlib",
    "tensorflow",
    "jax",
    "ml_dtypes",
    "mpi4py",
    "transformers",
    "tensorboard",
    "huggingface_hub",
    "yaml",
)

BLOCK = f"""
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OPTIONAL!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Block())
"""


def run(code):
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, encoding="utf-8", timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_trains_with_everything_optional_absent():
    out = run(
        BLOCK
        + """
import numpy as np
import tinygrad_llm as tg
tg.manual_seed(0)
config = tg.nn.GPTConfig(vocab_size=11, context_length=8, n_layer=1, n_head=2, n_embd=8)
model = tg.nn.GPT(config)
optimizer = tg.optim.AdamW(model.parameters(), lr=1e-2)
ids = np.arange(16).reshape(2, 8) % 11
losses = []
for _ in range(30):
    loss = model.loss(ids, (ids + 1) % 11)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
    losses.append(loss.item())
tg.generate(model, [[1, 2, 3]], max_new_tokens=4, temperature=0.0)
print(losses[-1] < losses[0] / 2)
"""
    )
    assert out == "True"


def test_import_loads_nothing_optional_and_no_large_library():
    out = run("import sys, tinygrad_llm; print(sorted({m.split('.')[0] for m in sys.modules}))")
    for name in (*OPTIONAL, "tiktoken", "safetensors", "regex", "asyncio", "multiprocessing"):
        assert f"'{name}'" not in out


def test_all_public_names_exist():
    out = run("import tinygrad_llm as tg; print([n for n in tg.__all__ if not hasattr(tg, n)])")
    assert out == "[]"
