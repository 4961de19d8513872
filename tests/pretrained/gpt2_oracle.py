"""GPT-2 written a second time, for the tests: random weights, files by hand, float64 logits.

Nothing here uses the package: it is what the package is compared with.
"""

import json
import struct
from pathlib import Path

import numpy as np

HPARAMS = {"n_vocab": 31, "n_ctx": 12, "n_embd": 8, "n_head": 2, "n_layer": 2}


def random_weights(seed: int = 0) -> dict[str, np.ndarray]:
    """Float32 arrays under Hugging Face's names without a prefix, linear weights (in, out)."""
    rng = np.random.default_rng(seed)
    v, t, c = HPARAMS["n_vocab"], HPARAMS["n_ctx"], HPARAMS["n_embd"]
    shapes = {"wte.weight": (v, c), "wpe.weight": (t, c), "ln_f.weight": (c,), "ln_f.bias": (c,)}
    for i in range(HPARAMS["n_layer"]):
        for norm in ("ln_1", "ln_2"):
            shapes[f"h.{i}.{norm}.weight"] = shapes[f"h.{i}.{norm}.bias"] = (c,)
        for name, n_in, n_out in (
            ("attn.c_attn", c, 3 * c),
            ("attn.c_proj", c, c),
            ("mlp.c_fc", c, 4 * c),
            ("mlp.c_proj", 4 * c, c),
        ):
            shapes[f"h.{i}.{name}.weight"] = (n_in, n_out)
            shapes[f"h.{i}.{name}.bias"] = (n_out,)
    return {k: rng.normal(0.0, 0.5, s).astype(np.float32) for k, s in shapes.items()}


def logits64(weights: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Logits (T, V) of one row of ids, in float64, one head and one position at a time."""
    w = {k: a.astype(np.float64) for k, a in weights.items()}
    c, n_head = HPARAMS["n_embd"], HPARAMS["n_head"]
    d = c // n_head
    x = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    def conv1d(x, name):
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    for i in range(HPARAMS["n_layer"]):
        qkv = conv1d(norm(x, f"h.{i}.ln_1"), f"h.{i}.attn.c_attn")
        y = np.zeros_like(x)
        for h in range(n_head):
            cols = slice(h * d, (h + 1) * d)
            q, k, v = (qkv[:, j * c : (j + 1) * c][:, cols] for j in range(3))
            for t in range(len(ids)):
                score = k[: t + 1] @ q[t] / np.sqrt(d)
                p = np.exp(score - score.max())
                y[t, cols] = p / p.sum() @ v[: t + 1]
        x = x + conv1d(y, f"h.{i}.attn.c_proj")
        u = conv1d(norm(x, f"h.{i}.ln_2"), f"h.{i}.mlp.c_fc")
        gelu = 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
        x = x + conv1d(gelu, f"h.{i}.mlp.c_proj")
    return norm(x, "ln_f") @ w["wte.weight"].T


def write_config(folder: Path, **changes) -> None:
    """``config.json`` as Hugging Face's GPT-2 has it."""
    content = {
        "model_type": "gpt2",
        "vocab_size": HPARAMS["n_vocab"],
        "n_positions": HPARAMS["n_ctx"],
        "n_ctx": HPARAMS["n_ctx"],
        "n_embd": HPARAMS["n_embd"],
        "n_head": HPARAMS["n_head"],
        "n_layer": HPARAMS["n_layer"],
        "activation_function": "gelu_new",
        "layer_norm_epsilon": 1e-05,
        "resid_pdrop": 0.1,
        **changes,
    }
    (folder / "config.json").write_text(json.dumps(content), encoding="utf-8")


def safetensors_bytes(tensors: dict[str, np.ndarray], kind: str = "F32") -> bytes:
    """A safetensors file, put together by hand."""
    header, body = {}, b""
    for name, array in tensors.items():
        raw = array.tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(raw)],
        }
        body += raw
    text = json.dumps(header).encode("utf-8")
    return struct.pack("<Q", len(text)) + text + body


def write_folder(folder: Path, tensors: dict[str, np.ndarray], **config) -> Path:
    """A model's folder as transformers would leave it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_config(folder, **config)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    return folder
