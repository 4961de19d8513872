"""The embedding layer: a table of vectors, looked up by number."""

from __future__ import annotations

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.checks import check_size
from tinygrad_llm.nn import init
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.parameter import Parameter


class Embedding(Module):
    """y = weight[ids]: the same as a Linear layer on one-hot vectors, without the zeros.

    Parameters: ``weight`` (V, C), standard normal at first, as in PyTorch.

    Args:
        num_embeddings: number of rows V.
        embedding_dim: length C of a row.
        generator: source of the initial values; by default the one of `tg.manual_seed`.
        device, dtype: where the table is made, and of which floating-point type.

    Raises:
        ConfigError: a size is not a positive integer, or the type not floating-point.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        generator: Generator | None = None,
        *,
        device: str | None = None,
        dtype: DTypeLike | None = None,
    ) -> None:
        self.num_embeddings = check_size("Embedding", "num_embeddings", num_embeddings)
        self.embedding_dim = check_size("Embedding", "embedding_dim", embedding_dim)
        shape = (self.num_embeddings, self.embedding_dim)
        self.weight = Parameter(init.normal(shape, generator=generator))
        self._made_for(device, dtype)

    def forward(self, ids: TensorLike) -> Tensor:
        """Integer ids (...) -> (..., C).

        Raises:
            IndexRangeError: an id is negative or not less than V.
        """
        return F.embedding(ids, self.weight)
