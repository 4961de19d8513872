"""Types of results: PyTorch's tables, walked over all pairs of types for all two-operand ops."""

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.stand_in_gpu import stand_in_gpu
from tinygrad_llm import functional as F
from tinygrad_llm.backend.dtypes import as_dtype, is_float
from tinygrad_llm.backend.promotion import result_dtype
from tinygrad_llm.errors import DTypeError
from tinygrad_llm.ops.select import Maximum, Minimum

NAMES = {
    "b1": "bool",
    "u1": "uint8",
    "i1": "int8",
    "i2": "int16",
    "i4": "int32",
    "i8": "int64",
    "f2": "float16",
    "bf": "bfloat16",
    "f4": "float32",
    "f8": "float64",
}

# Read from torch.result_type (PyTorch 2.13). Both operands have axes:
BOTH_WITH_AXES = """
   b1 u1 i1 i2 i4 i8 f2 bf f4 f8
b1 b1 u1 i1 i2 i4 i8 f2 bf f4 f8
u1 u1 u1 i2 i2 i4 i8 f2 bf f4 f8
i1 i1 i2 i1 i2 i4 i8 f2 bf f4 f8
i2 i2 i2 i2 i2 i4 i8 f2 bf f4 f8
i4 i4 i4 i4 i4 i4 i8 f2 bf f4 f8
i8 i8 i8 i8 i8 i8 i8 f2 bf f4 f8
f2 f2 f2 f2 f2 f2 f2 f2 f4 f4 f8
bf bf bf bf bf bf bf f4 bf f4 f8
f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f8
f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8
"""
# The operand of the row has axes, that of the column has none.
SECOND_WITHOUT = """
   b1 u1 i1 i2 i4 i8 f2 bf f4 f8
b1 b1 u1 i1 i2 i4 i8 f2 bf f4 f8
u1 u1 u1 u1 u1 u1 u1 f2 bf f4 f8
i1 i1 i1 i1 i1 i1 i1 f2 bf f4 f8
i2 i2 i2 i2 i2 i2 i2 f2 bf f4 f8
i4 i4 i4 i4 i4 i4 i4 f2 bf f4 f8
i8 i8 i8 i8 i8 i8 i8 f2 bf f4 f8
f2 f2 f2 f2 f2 f2 f2 f2 f2 f2 f2
bf bf bf bf bf bf bf bf bf bf bf
f4 f4 f4 f4 f4 f4 f4 f4 f4 f4 f4
f8 f8 f8 f8 f8 f8 f8 f8 f8 f8 f8
"""
# A Python bool, int and float beside a tensor, with or without axes.
WITH_A_NUMBER = """
   bool int float
b1 b1 i8 f4
u1 u1 u1 f4
i1 i1 i1 f4
i2 i2 i2 f4
i4 i4 i4 f4
i8 i8 i8 f4
f2 f2 f2 f2
bf bf bf bf
f4 f4 f4 f4
f8 f8 f8 f8
"""


def cells(table):
    header, *rows = (line.split() for line in table.strip().splitlines())
    for row, *results in rows:
        for column, result in zip(header, results, strict=True):
            yield row, column, as_dtype(NAMES[result])


NUMBERS = {"bool": True, "int": 1, "float": 1.0}
PAIRS = [
    *((a, b, (1, 2), (2, 1), want) for a, b, want in cells(BOTH_WITH_AXES)),
    *((a, b, (2,), (), want) for a, b, want in cells(SECOND_WITHOUT)),
    *((a, b, (), (), want) for a, b, want in cells(BOTH_WITH_AXES)),
]


def ones(code, shape, device="cpu"):
    return tg.tensor(np.ones(shape, as_dtype(NAMES[code])), device=device)


OPS = {
    "add": (lambda a, b: a + b, 2),
    "subtract": (lambda a, b: a - b, 0),
    "multiply": (lambda a, b: a * b, 1),
    "divide": (lambda a, b: a / b, 1),
    "power": (lambda a, b: a**b, 1),
    "maximum": (Maximum.apply, 1),
    "minimum": (Minimum.apply, 1),
    "floor_divide": (lambda a, b: a // b, 1),
    "remainder": (lambda a, b: a % b, 0),
    "where": (lambda a, b: F.where(np.array([True]), a, b), 1),
}
REFUSED_FOR_BOOLS = ("subtract", "power", "remainder", "floor_divide")


def check(name, op, value, a, b, dtype):
    """Type and value of the result, in both orders; for floats also types of gradients."""
    if dtype.kind == "b" and name in REFUSED_FOR_BOOLS:
        with pytest.raises(DTypeError, match=name):
            op(a, b)
        return
    if name == "divide" and not is_float(dtype):
        dtype = np.dtype(np.float32)
    for x, y in ((a, b), (b, a)):
        leaves = [t for t in (x, y) if isinstance(t, tg.Tensor) and is_float(t.dtype)]
        for leaf in leaves:
            leaf.requires_grad_()
            leaf.grad = None
        out = op(x, y)
        assert out.dtype == dtype
        expected = np.bool_(True) if dtype.kind == "b" else value
        assert (out.detach().numpy() == expected).all()
        if leaves and name != "floor_divide":
            out.backward(np.ones(out.shape, dtype))
            assert all(leaf.grad.dtype == leaf.dtype for leaf in leaves)


@pytest.mark.parametrize("name", OPS)
def test_two_tensors(name):
    op, value = OPS[name]
    for a, b, shape_a, shape_b, want in PAIRS:
        check(name, op, value, ones(a, shape_a), ones(b, shape_b), want)


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("shape", [(2,), ()])
def test_a_tensor_and_a_number(name, shape):
    op, value = OPS[name]
    for a, kind, want in cells(WITH_A_NUMBER):
        check(name, op, value, ones(a, shape), NUMBERS[kind], want)


COMPARISONS = {
    "==": lambda a, b: a == b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
    "!=": lambda a, b: a != b,
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
}


@pytest.mark.parametrize("sign", COMPARISONS)
def test_comparisons_of_all_pairs(sign):
    compare, equal = COMPARISONS[sign], sign in ("==", "<=", ">=")
    for a, b, shape_a, shape_b, _ in PAIRS:
        out = compare(ones(a, shape_a), ones(b, shape_b))
        assert out.dtype == bool
        assert (out.numpy() == equal).all()
    for a, kind, _ in cells(WITH_A_NUMBER):
        assert (compare(ones(a, (2,)), NUMBERS[kind]).numpy() == equal).all()


def test_comparisons_round_both_sides_to_one_type():
    x = tg.tensor([0.1])
    assert (x == tg.tensor(np.array(0.1))).numpy().all()  # float64 without axes
    for half in ("float16", "bfloat16"):
        assert (x.astype(half) == 0.1).numpy().all()
    assert not (tg.tensor(np.uint8([44])) == 300).numpy().any()
    assert not (tg.tensor(np.uint8([255])) == -1).numpy().any()


@pytest.mark.parametrize("join", [F.concatenate, F.stack])
def test_joined_tensors(join):
    for a, b, want in cells(BOTH_WITH_AXES):
        pair = [ones(a, (2,)), ones(b, (2,))]
        leaves = [x.requires_grad_() for x in pair if is_float(x.dtype)]
        out = join(pair)
        assert out.dtype == want
        if leaves:
            out.backward(np.ones(out.shape))
            assert all(x.grad.dtype == x.dtype for x in leaves)


@pytest.mark.parametrize("product", [F.matmul, F.linear])
def test_products(product):
    for a, b, want in cells(BOTH_WITH_AXES):
        x, y = ones(a, (3, 3)), ones(b, (3, 3))
        leaves = [t.requires_grad_() for t in (x, y) if is_float(t.dtype)]
        out = product(x * 1.0 if is_float(x.dtype) else x, y * 1.0 if is_float(y.dtype) else y)
        assert out.dtype == want
        assert (out.detach().numpy() == (1 if want.kind == "b" else 3)).all()
        if leaves:
            out.backward(np.ones((3, 3)))
            assert all((t.grad == 3).all() and t.grad.dtype == t.dtype for t in leaves)


def test_arrays_on_a_gpu_follow_the_same_tables(monkeypatch):
    with stand_in_gpu(monkeypatch) as waits:
        for name, (op, _) in OPS.items():
            for a, b, shape_a, shape_b, want in PAIRS:
                if name == "where" or (want.kind == "b" and name in REFUSED_FOR_BOOLS):
                    continue
                x, y = ones(a, shape_a, "cuda"), ones(b, shape_b, "cuda")
                waits.clear()
                out = op(x, y)
                fraction = name == "divide" and not is_float(want)
                assert out.dtype == (np.float32 if fraction else want), (name, a, b)
                assert out.device == "cuda:0"
                # The one wait: whether an integer power is negative.
                assert not waits or (name == "power" and not is_float(want))


FRACTIONS = ("exp", "sqrt", "tanh", "sigmoid", "sin", "cos", "log")


@pytest.mark.parametrize("name", FRACTIONS)
@pytest.mark.parametrize("code", ["b1", "u1", "i1", "i2", "i4", "i8"])
def test_functions_with_fractions_take_integers_as_float32(name, code):
    x = ones(code, (3,))
    out = getattr(x, name)()
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out.numpy(), getattr(x.astype("float32"), name)().numpy())


def test_large_bytes_do_not_overflow():
    out = tg.tensor(np.uint8([12, 80])).exp()
    np.testing.assert_allclose(out.numpy(), np.exp([12.0, 80.0]), rtol=1e-6)


@pytest.mark.parametrize("code", ["b1", "u1", "i1", "i2", "i4", "i8"])
def test_sums_and_means_of_integers(code):
    x = ones(code, (300, 2))
    assert x.sum().dtype == x.sum(axis=0).dtype == np.int64
    assert x.mean().dtype == x.var(axis=0).dtype == np.float32
    assert x.max().dtype == x.dtype
    assert (x.sum(axis=0).numpy() == 300).all()
    assert (x.mean(axis=0).numpy() == 1).all()


@pytest.mark.parametrize(
    "call",
    [
        lambda x: x.softmax(),
        lambda x: x.log_softmax(),
        lambda x: x.gelu(),
        lambda x: F.layer_norm(x),
        lambda x: F.add_layer_norm(x, x),
        lambda x: F.cross_entropy(x, [0, 1]),
        lambda x: F.linear_cross_entropy(x, x, [0, 1]),
        lambda x: F.feed_forward(x, x, x[0], x, x[0]),
        lambda x: F.silu(x),
        lambda x: F.attention_qkv(x.reshape(1, 2, 2), 1),
        lambda x: F.scaled_dot_product_attention(*[x.reshape(1, 1, 2, 2)] * 3),
    ],
)
def test_layers_refuse_integers_instead_of_rounding_to_zeros(call):
    with pytest.raises(DTypeError, match=r"expected floating-point numbers, got int64.*astype"):
        call(tg.tensor([[1, 2], [3, 4]]))


def test_what_has_no_type_of_a_result_is_refused():
    x = tg.tensor([1, 2])
    with pytest.raises(DTypeError, match="add: .* got str"):
        x + "a"
    with pytest.raises(DTypeError, match="multiply: .* 300"):
        x.astype("uint8") * 300
    with pytest.raises(DTypeError, match="power: an integer to a negative power"):
        x**-1
    with pytest.raises(DTypeError, match="power: an integer to a negative power"):
        x ** tg.tensor([-1, 2])
    with pytest.raises(DTypeError, match="negative: a bool"):
        -(x == 1)
    with pytest.raises(DTypeError, match="equal: expected numbers"):
        x == "a"
    with pytest.raises(DTypeError, match="matmul: .* got list"):
        x @ [1, 2]
    with pytest.raises(DTypeError, match="sign: .* bool"):
        (x == 1).sign()
    with pytest.raises(DTypeError, match="U1"):
        x.float().requires_grad_().sum().backward("a")
    with pytest.raises(DTypeError, match="needs at least one"):
        result_dtype()


def test_new_tensors_take_python_floats_as_float32_and_keep_what_numpy_typed():
    assert tg.tensor(3.0).dtype == tg.tensor([1, 2.5]).dtype == np.float32
    assert tg.tensor(np.float64(3)).dtype == tg.tensor([np.float64(3)]).dtype == np.float64
    assert tg.tensor([np.ones(2), np.ones(2)]).dtype == np.float64
    assert tg.tensor([[np.ones(2)], [[1.0, 2.0]]]).dtype == np.float64
    assert tg.tensor(np.float16(3)).dtype == np.float16
