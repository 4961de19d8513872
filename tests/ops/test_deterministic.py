"""tg.deterministic: which kernels the backward passes launch, with it and without."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.autograd.modes import current

pytest.importorskip("triton")


def launched(run):
    """Names of the kernels that `run` launches, compiled for an H100."""
    from tinygrad_llm import kernels

    with kernels.compile_only(90) as compiled, tg.use_kernels("force"):
        run()
    return {kernel.metadata.name for kernel in compiled}


def attention():
    x = np.zeros((1, 1, 8, 64), np.float16)
    q, k, v = (tg.Tensor(x, requires_grad=True) for _ in range(3))
    tg.functional.scaled_dot_product_attention(q, k, v).backward(x)


def packed_attention():
    qkv = tg.Tensor(np.zeros((1, 8, 3 * 64), np.float16), requires_grad=True)
    tg.functional.attention_qkv(qkv, 1).backward(np.zeros((1, 8, 64), np.float16))


def embedding():
    table = tg.Tensor(np.zeros((5, 16), np.float32), requires_grad=True)
    ids = np.array([[1, 3, 3]])
    tg.functional.embedding(ids, table).backward(np.zeros((1, 3, 16), np.float32))


@pytest.mark.parametrize(
    ("run", "in_order", "in_any_order"),
    [
        (attention, "attention_backward_keys_kernel", "attention_backward_one_pass_kernel"),
        (packed_attention, "attention_backward_keys_kernel", "attention_backward_one_pass_kernel"),
        (embedding, "embedding_backward_kernel", "embedding_atomic_kernel"),
    ],
)
def test_sums_in_a_fixed_order_where_they_are_asked_for(run, in_order, in_any_order):
    with tg.deterministic(False):
        fast = launched(run)
        with tg.deterministic():
            exact = launched(run)
    assert in_any_order in fast
    assert in_order not in fast
    assert in_order in exact
    assert in_any_order not in exact


def test_a_block_ends_even_with_an_error():
    before = current.deterministic
    with pytest.raises(ZeroDivisionError), tg.deterministic(not before):
        1 / 0
    assert current.deterministic == before
