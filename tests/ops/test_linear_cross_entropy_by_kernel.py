"""The last layer with its loss on a GPU: chunks of rows, and gradients in half precision."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.padding import with_padding
from tinygrad_llm.ops.by_kernel.linear_cross_entropy import LOGITS_BYTES, rows_at_once

GPT2 = 50257 * 2  # bytes of a row of logits


def test_chunks_are_few_and_even():
    for n in (100, 8192, 16 * 1024, 32 * 1024, 64 * 1024):
        rows = rows_at_once(n, GPT2)
        chunks = -(-n // rows)
        assert rows % 128 == 0
        assert rows * GPT2 <= LOGITS_BYTES + 128 * GPT2
        assert chunks == -(-n * GPT2 // LOGITS_BYTES)
        assert chunks * rows - n < 128 * chunks  # the last one is hardly smaller
    assert rows_at_once(0, GPT2) == 0
    assert rows_at_once(10**6, LOGITS_BYTES) == 128  # a row is not cut


def gradients(dtype, share, mode):
    """dx of the loss times ``share``, and what the optimizer's flat float32 array gets as dW."""
    rng = np.random.default_rng(0)
    x = tg.Tensor(rng.normal(size=(6, 8)), dtype, requires_grad=True)
    layer = tg.nn.Linear(8, 5, bias=False, generator=tg.backend.random.Generator(0)).to(dtype)
    optimizer = tg.optim.AdamW(layer)
    with tg.use_kernels(mode):
        for _ in range(2):  # the second adds to the first
            loss = tg.functional.linear_cross_entropy(x, layer.weight, [0, 1, 2, 3, 4, 0])
            loss.backward(np.asarray(share, loss.dtype))
    (dw,) = optimizer.gradients()
    return x.grad.astype(np.float64), dw


def test_the_share_of_a_micro_batch_is_not_rounded_to_bfloat16():
    pytest.importorskip("triton")
    pytest.importorskip("ml_dtypes")
    share = 0.2505  # 0.25 in bfloat16: the sums would be 0.2 % too small
    whole, parts = gradients("bfloat16", 1.0, "force"), gradients("bfloat16", share, "force")
    dw, one = parts[1], whole[1]
    assert dw.dtype == np.float32
    assert float((dw * one).sum() / (one * one).sum()) == pytest.approx(share, rel=1.5e-3)
    exact = gradients("float32", share, "off")
    for ours, wanted in zip(parts, exact, strict=True):
        assert np.linalg.norm(ours - wanted) < 1e-2 * np.linalg.norm(wanted)


class Head:
    """A table of odd size in an optimizer's flat arrays, as on a GPU, and hidden states."""

    def __init__(self, dtype="float32", v=61):
        pytest.importorskip("triton")
        pytest.importorskip("ml_dtypes")
        rng = np.random.default_rng(0)
        self.v = v
        self.weight = tg.nn.Parameter(rng.normal(size=(v, 8)).astype(np.float32), dtype=dtype)
        self.x = tg.Tensor(rng.normal(size=(6, 8)), dtype, requires_grad=True)
        with tg.use_kernels("force"):
            self.optimizer = tg.optim.AdamW([self.weight])
        self.buffer = self.weight.gradient_sink

    def loss(self, target, **options):
        targets = [target, target + 1, target, -100, target, 0]
        with tg.use_kernels("force"):
            return tg.functional.linear_cross_entropy(
                self.x, self.weight, targets, chunk_rows=4, **options
            )

    def backward(self, loss, **options):
        with tg.use_kernels("force"):
            loss.backward(**options)

    def gradient(self, target):
        """dW of the same loss by small ops, in float64."""
        x, w = (
            tg.Tensor(t.numpy().astype(np.float64), requires_grad=True)
            for t in (self.x, self.weight)
        )
        targets = np.array([target, target + 1, target, -100, target, 0])
        tg.functional.cross_entropy(tg.functional.linear(x, w), targets).backward()
        return w.grad

    def check(self, expected):
        """The flat gradient is ``expected``, in float32, and zeros behind it."""
        gradient = self.buffer.array
        assert self.weight.grad is gradient
        assert gradient.dtype == np.float32
        tolerance = 1e-6 if self.weight.dtype == np.float32 else 1e-2
        error = np.linalg.norm(gradient - expected)
        assert error < tolerance * np.linalg.norm(expected)
        assert not with_padding(gradient)[self.v :].any()


DTYPES = pytest.mark.parametrize("dtype", ["float32", "bfloat16"])


@DTYPES
def test_the_gradient_is_made_in_the_optimizers_array_and_not_rounded(dtype):
    head = Head(dtype)
    with_padding(head.buffer.array)[...] = np.nan  # what an earlier step may have left
    loss = head.loss(3)
    assert not head.buffer.is_free()  # the op holds the array: nobody else is given it
    head.backward(loss)
    head.check(head.gradient(3))
    gradient = head.buffer.array
    rounded = gradient.astype(head.weight.dtype).astype(np.float32)
    assert dtype == "float32" or (rounded != gradient).mean() > 0.9


@DTYPES
def test_micro_batches_with_shares_add_up(dtype):
    head = Head(dtype)
    for target, share in ((3, 0.25), (5, 0.75)):
        head.backward(head.loss(target), gradient=np.float32(share))
    head.check(0.25 * head.gradient(3) + 0.75 * head.gradient(5))


@DTYPES
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_losses_before_two_backwards(dtype, order):
    head = Head(dtype)
    losses = [head.loss(3), head.loss(5)]
    for i in order:
        head.backward(losses[i])
    head.optimizer.gradients()
    head.check(head.gradient(3) + head.gradient(5))


@DTYPES
def test_a_kept_graph_can_be_walked_again(dtype):
    head = Head(dtype)
    loss = head.loss(3)
    head.backward(loss, gradient=np.float32(0.5), retain_graph=True)
    head.backward(loss)
    head.check(1.5 * head.gradient(3))


def test_a_loss_that_dies_gives_the_array_back():
    head = Head()
    loss = head.loss(3)
    del loss
    assert head.buffer.is_free()


@DTYPES
def test_weights_without_an_optimizer_get_gradients_of_their_own_type(dtype):
    head = Head(dtype)
    head.weight.gradient_sink = None
    head.backward(head.loss(3))
    assert head.weight.grad.dtype == head.weight.dtype
    np.testing.assert_allclose(head.weight.grad.astype(float), head.gradient(3), atol=4e-3)


def test_replaced_weights_have_no_padding_but_their_gradient_has():
    head = Head()
    head.weight.data = head.weight.data * 2
    head.backward(head.loss(3))
    head.check(head.gradient(3))


@pytest.mark.parametrize("v", [61, 40])
def test_products_see_the_padded_table_with_gradients_and_without(monkeypatch, v):
    head = Head(v=v)
    seen, function = [], tg.kernels.linear_cross_entropy

    def noted(x, weight, *args, **options):
        seen.append((len(weight), options["classes"]))
        return function(x, weight, *args, **options)

    noted.supports = function.supports
    monkeypatch.setattr(tg.kernels, "linear_cross_entropy", noted)
    with_gradient = head.loss(3)
    with tg.no_grad():
        without = head.loss(3)
    assert without.item() == with_gradient.item()
    assert seen == [(64 if v == 61 else 40, v)] * 2


@DTYPES
def test_tied_embeddings_add_to_the_heads_gradient(dtype):
    pytest.importorskip("triton")
    pytest.importorskip("ml_dtypes")

    def gradients(mode):
        tg.manual_seed(0)
        model = tg.nn.GPT(tg.nn.GPTConfig(61, 4, n_layer=1, n_head=2, n_embd=16)).to(dtype)
        with tg.use_kernels(mode):
            optimizer = tg.optim.AdamW(model)
            for ids in ([[1, 2, 60, 1]], [[7, 8, 7, 9]]):
                model.loss(ids, ids).backward(np.asarray(0.5, "float32"))
        return model.token_embedding.weight.grad.astype(np.float64), optimizer

    (got, optimizer), (wanted, _) = gradients("force"), gradients("off")
    tolerance = 1e-5 if dtype == "float32" else 2e-2
    assert np.linalg.norm(got - wanted) < tolerance * np.linalg.norm(wanted)
    slot = optimizer.buffers[0].slots[0]
    assert not with_padding(slot.grad)[61:].any()


def test_float16_takes_the_array_code():
    pytest.importorskip("triton")
    with pytest.raises(tg.errors.KernelError, match="too small for float16"):
        gradients("float16", 1.0, "force")
