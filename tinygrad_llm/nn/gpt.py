"""GPT: embeddings, a stack of transformer blocks, and the output layer."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial

from tinygrad_llm import functional as F
from tinygrad_llm.autograd import Tensor, no_grad
from tinygrad_llm.autograd.arrays import TensorLike
from tinygrad_llm.autograd.checkpoint import checkpoint
from tinygrad_llm.autograd.modes import current
from tinygrad_llm.backend import Array, parse_device, to_device
from tinygrad_llm.backend.dtypes import DTypeLike
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError, ShapeError
from tinygrad_llm.gpt_config import GPTConfig
from tinygrad_llm.nn import init
from tinygrad_llm.nn._ids import as_mask, batch_of_ids, positions_of
from tinygrad_llm.nn.block import TransformerBlock
from tinygrad_llm.nn.containers import ModuleList
from tinygrad_llm.nn.dropout import Dropout, set_dropout
from tinygrad_llm.nn.embedding import Embedding
from tinygrad_llm.nn.kv_cache import KVCache
from tinygrad_llm.nn.layer_norm import LayerNorm
from tinygrad_llm.nn.linear import Linear, is_plain
from tinygrad_llm.nn.module import Module
from tinygrad_llm.nn.own_parts import call, check_growth, check_logits, check_stream, tied_weight
from tinygrad_llm.nn.registry import register_model
from tinygrad_llm.nn.same_parts import check_plain
from tinygrad_llm.pretrained import read_model, write_model


@register_model("gpt")
class GPT(Module):
    """A decoder-only transformer language model with GPT-2's architecture.

        x      = dropout(token_embedding[ids] + position_embedding[0 .. T-1])
        x      = block(x)                                      n_layer times
        logits = final_norm(x) W^T        W: token_embedding when tied, else the head's weight

    Args:
        config: its size and kind.
        generator: source of the initial values; by default the one of `tg.manual_seed`.

    Attributes:
        config: as given.
        checkpoint_blocks: set to True to keep only each block's input for the backward pass and
            compute the block again there: less memory, about a third more time.

    Parts may be replaced by one's own, as in `TransformerBlock`: a block, ``final_norm``, an
    embedding (integers (...) -> (..., C); ``position_embedding`` may be None), a ``head``
    ((..., C) -> (..., V)). A subclass overrides `hidden` or `logits` rather than ``forward``, which
    is then called for all positions. `save_model` saves them: docs/own_parts.md.

    Source: Radford et al., "Language models are unsupervised multitask learners", 2019.
    """

    def __init__(self, config: GPTConfig, generator: Generator | None = None) -> None:
        if not isinstance(config, GPTConfig):
            raise ConfigError(
                f"GPT: expected a GPTConfig, got {type(config).__name__}. Write "
                "GPT(GPTConfig(vocab_size=..., context_length=..., ...))."
            )
        self.config = config
        self.checkpoint_blocks = False
        c = config.n_embd
        with init.no_init():  # the values follow below, all in one place
            self.token_embedding = Embedding(config.vocab_size, c)
            self.position_embedding = Embedding(config.context_length, c)
            self.dropout = Dropout(config.dropout)
            self.blocks = ModuleList(
                TransformerBlock(c, config.n_head, config.dropout, config.qkv_bias)
                for _ in range(config.n_layer)
            )
            self.final_norm = LayerNorm(c)
            self.head = None if config.tie_weights else Linear(c, config.vocab_size, bias=False)
        if not init.is_skipping():
            init.gpt2(self, config.n_layer, generator)

    # ---- forward -----------------------------------------------------------------------------

    def forward(
        self,
        ids: TensorLike,
        cache: KVCache | None = None,
        positions: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        """Scores of the next token at every position.

        Args:
            ids: integers (B, T): array, nested list or Tensor.
            cache, positions, mask: as in `hidden`.

        Returns:
            logits (B, T, V)
        """
        hidden = self.hidden(ids, cache, positions, mask)  # (B, T, C)
        if cache is None:
            return self.logits(hidden)
        with no_grad():
            return self.logits(hidden)

    def loss(self, ids: TensorLike, targets: TensorLike, ignore_index: int = -100) -> Tensor:
        """Mean cross-entropy of the targets, without ever holding all logits.

        Args:
            ids: integers (B, T).
            targets: integers (B, T), the ids of the next tokens; positions with
                ``ignore_index`` do not count.

        Returns:
            scalar

        Raises:
            ShapeError: targets have another shape than ids.
            IndexRangeError: an id or target is out of range.
        """
        ids = batch_of_ids("GPT", "ids", ids)
        targets = batch_of_ids("GPT.loss", "targets", targets)
        if ids.shape != targets.shape:
            raise ShapeError(
                f"GPT.loss: targets must have the shape of ids, {ids.shape}, got {targets.shape}."
            )
        if type(self).forward is not GPT.forward:  # one's own, whose scores may be others
            return F.cross_entropy(self(ids), targets, ignore_index)
        return self.loss_of_hidden(self.hidden(ids), targets, ignore_index)

    def loss_of_hidden(self, hidden: Tensor, targets: Array, ignore_index: int = -100) -> Tensor:
        """The same from the residual stream (B, T, C) that `hidden` returned.

        A plain output layer is one op with the loss, which never holds all logits. Any other head
        (a LoRALinear, one's own, one with hooks) is called, and has all its logits.
        """
        if self.head is None:
            weight, bias = tied_weight(self.token_embedding), None
        elif is_plain(self.head):
            weight, bias = self.head.weight, self.head.bias
        else:
            return F.cross_entropy(self.logits(hidden), targets, ignore_index)
        return F.linear_cross_entropy(hidden, weight, targets, bias, ignore_index)

    def hidden(
        self,
        ids: TensorLike,
        cache: KVCache | None = None,
        positions: TensorLike | None = None,
        mask: TensorLike | None = None,
    ) -> Tensor:
        """The residual stream after the last norm: what the output layer sees.

        Args:
            ids: integers (B, T); with a cache only the new ones.
            cache: keys and values of earlier positions, to which those of ``ids`` are added.
                With a cache no gradient is computed.
            positions: position numbers (T,) or (B, T); by default they follow on the cache's.
            mask: boolean, False hides a key (or numbers to add to the scores): (B, S) for all S
                positions so far, or broadcastable to (B, H, T, S). By default the cache's
                padding is hidden.

        Returns:
            (B, T, C)

        Raises:
            ShapeError: ids have not two axes, or reach beyond ``context_length``.
            IndexRangeError: an id is not in 0 .. vocab_size - 1.
        """
        ids = batch_of_ids("GPT", "ids", ids)
        if cache is None:
            return self._run_blocks(ids, None, positions, mask)
        with no_grad():
            return self._run_blocks(ids, cache, positions, mask)

    def logits(self, hidden: Tensor) -> Tensor:
        """The output layer: hidden (..., C) -> logits (..., V)."""
        if self.head is not None:
            logits = self.head(hidden)
            check_logits(self.head, logits, hidden)
            return logits
        return F.linear(hidden, tied_weight(self.token_embedding))

    def _run_blocks(
        self,
        ids: Array,
        cache: KVCache | None,
        positions: TensorLike | None,
        mask: TensorLike | None,
    ) -> Tensor:
        n_new = ids.shape[1]
        if mask is None:
            mask = None if cache is None else cache.mask(n_new)
        else:
            mask = as_mask(mask, self.device)
        x = self.token_embedding(ids)  # (B, T, C)
        check_stream(x, ids.shape, self.config.n_embd)
        # (T,) or (B, T)
        positions = positions_of(x, cache, positions, self.config.context_length)
        if self.position_embedding is not None:
            x = x + self.position_embedding(positions)
            check_stream(x, ids.shape, self.config.n_embd)
        x = self.dropout(x)
        recompute = self.checkpoint_blocks and cache is None and current.grad_enabled
        for i, block in enumerate(self.blocks):
            if cache is not None:
                layer, before = cache.layers[i], cache.layers[i].length
                x = call(block, x, mask=mask, cache=layer)
                check_growth(f"blocks.{i}", block, layer, before, n_new)
            elif recompute:
                x = checkpoint(partial(call, block, mask=mask), x)
            else:
                x = call(block, x, mask=mask)
        return call(self.final_norm, x)

    def set_dropout(self, p: float) -> None:
        """Change the probability of dropout everywhere, as for fine-tuning on a small set.

        Raises:
            ConfigError: p is not a number of [0, 1).
        """
        set_dropout(self, p)

    # ---- generation, saving, loading ---------------------------------------------------------

    def new_cache(
        self,
        batch: int,
        max_length: int | None = None,
        padding: Sequence[int] | Array | None = None,
    ) -> KVCache:
        """An empty cache of keys and values for this model.

        Args:
            batch: number of rows.
            max_length: columns to make room for, by default ``context_length``.
            padding: number of padded columns on the left of each row, or None.
        """
        weight = self.token_embedding.weight
        return KVCache(
            self.config.n_layer,
            batch,
            self.config.n_head,
            max_length or self.config.context_length,
            self.config.head_size,
            weight.dtype,
            weight.device,
            padding,
        )

    @classmethod
    def from_pretrained(
        cls,
        folder_or_name: str | os.PathLike[str],
        device: str = "cpu",
        dtype: DTypeLike | None = None,
        cache_dir: str | os.PathLike[str] | None = None,
        verify: bool = True,
    ) -> GPT:
        """Read a model from a folder, or by a name like "gpt2"; it is in evaluation mode.

        Args:
            folder_or_name, dtype, cache_dir, verify: as for `pretrained.read_model`.
            device: ``"cpu"``, ``"cuda"`` or ``"cuda:N"``.

        Raises:
            CheckpointError: no such model, damaged files, or a class with parts of its own.
            DeviceError: the device is unknown or absent.
        """
        parse_device(device)
        config, arrays = read_model(folder_or_name, dtype, cache_dir, verify)
        with init.no_init():
            model = cls(config)
        if cls is not GPT:
            model.check_plain()
        parameters = dict(model.named_parameters())
        for name, array in arrays:  # one at a time: they are large
            parameters[name].replace_data(to_device(array, device))
        return model.eval()

    def save_pretrained(
        self, folder: str | os.PathLike[str], extra_config: Mapping[str, object] | None = None
    ) -> None:
        """Write config.json and model.safetensors so that transformers can open the folder.

        Args:
            folder: made if need be.
            extra_config: entries to add to ``config.json``, such as ``{"eos_token_id": 7}``.

        Raises:
            CheckpointError: a file cannot be written, or the model is no plain GPT.
        """
        self.check_plain()
        arrays = {name: p.data for name, p in self.named_parameters()}
        write_model(folder, self.config, arrays, extra_config)

    def check_plain(self) -> None:
        """Raise a CheckpointError if `save_pretrained` would lose parts of one's own."""
        with init.no_init():
            check_plain(self, GPT(self.config))
