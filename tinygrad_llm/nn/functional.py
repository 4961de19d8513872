"""The ops as functions, where PyTorch has them: ``import tinygrad_llm.nn.functional as F``.

They are those of `tinygrad_llm.functional`.
"""

from tinygrad_llm.functional import *  # noqa: F403
from tinygrad_llm.functional import __dir__, __getattr__  # type: ignore[attr-defined]  # noqa: F401
