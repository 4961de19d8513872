"""The methods of Tensor by what they do; each one that is an op looks it up by name.

What they compute, and how it is differentiated, stands in the op's file under ``ops/``.
"""

from tinygrad_llm.autograd.methods.conversion import Conversion
from tinygrad_llm.autograd.methods.reductions import Reductions
from tinygrad_llm.autograd.methods.selection import Selection
from tinygrad_llm.autograd.methods.shape import Shape

__all__ = ["Conversion", "Reductions", "Selection", "Shape"]
