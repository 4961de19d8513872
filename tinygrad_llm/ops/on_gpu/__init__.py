"""The kernel twins: each op of the hot path once more, through its Triton kernel.

A twin holds no mathematics. Formula and derivative stand in the op's own file, the kernel's
arithmetic in ``kernels/``; here one is handed to the other.
"""

from tinygrad_llm.ops.on_gpu import attention, feed_forward, layers, losses, rowwise

__all__ = ["attention", "feed_forward", "layers", "losses", "rowwise"]
