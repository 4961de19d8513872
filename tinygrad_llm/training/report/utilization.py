"""How much of the chip a training run uses: MFU, model FLOPs utilization.

    FLOPs per token = 6 N + 6 L C T

Two operations (multiply, add) per weight forward and four backward, for the N weights that take
part in matrix products; and attention, whose causal half costs 6 L C T more. The output projection
counts although its weights are the embedding's; looking an embedding up costs nothing.

Source: Chowdhery et al., "PaLM", 2022, appendix B; the causal count is llm.c's.
"""

from __future__ import annotations

from tinygrad_llm.nn import GPTConfig

# Dense bf16 tensor-core TFLOP/s of the data sheets; the first name found in the GPU's name counts.
PEAK_BF16 = (
    ("B200", 2250.0),
    ("B100", 1750.0),
    ("GH200", 989.0),
    ("H200 NVL", 835.0),
    ("H200", 989.0),
    ("H100 PCIe", 756.0),
    ("H100 NVL", 835.0),
    ("H100", 989.0),
    ("L40S", 362.0),
    ("L4", 121.0),
    ("A100", 312.0),
    ("A40", 149.7),
    ("A10", 125.0),
    ("RTX 5090", 209.5),
    ("RTX 4090", 165.2),
    ("RTX 3090", 71.0),
)

# GB/s of a copy and TFLOP/s of a bf16 product of 8192 cubed, measured on one card of each kind: the
# 80 GB H100 and the 141 GB H200 of an SXM board. Both have the same chip; the memory differs.
MEASURED = {"H100": (3000.0, 798.0), "H200": (4300.0, 790.0)}


def card(gpu_name: str) -> str | None:
    """The kind of card, "H100" or "H200", of a GPU's name; None where no rates are known."""
    words = gpu_name.split()
    if {"PCIe", "NVL"} & set(words):  # the same chip with less power, and other memory
        return None
    return next((kind for kind in MEASURED if kind in words), None)


def peak_flops(gpu_name: str) -> float | None:
    """Dense bf16 operations per second of a GPU by name; None for an unknown one."""
    for name, tera in PEAK_BF16:
        if name.lower() in gpu_name.lower():
            return tera * 1e12
    return None


def flops_per_token(config: GPTConfig) -> float:
    """Operations for the forward and backward pass over one token of a full context.

    Args:
        config: a GPTConfig.
    """
    c, layers = config.n_embd, config.n_layer
    weights = layers * 12 * c * c + config.vocab_size * c
    return 6.0 * weights + 6.0 * layers * c * config.context_length


def utilization(tokens_per_second: float, config: GPTConfig, peak: float | None) -> float | None:
    """The part of the peak that went into the model's own arithmetic; None if it is unknown.

    A result over 1 would mean a wrong peak, and is not reported.
    """
    if not peak or tokens_per_second <= 0:
        return None
    share = tokens_per_second * flops_per_token(config) / peak
    return share if share <= 1 else None


def gpu_name() -> str:
    """Name of the current GPU.

    Raises:
        DeviceError: there is none.
    """
    from tinygrad_llm.backend import cuda_module

    cupy = cuda_module()
    properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.runtime.getDevice())
    name = properties["name"]
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
