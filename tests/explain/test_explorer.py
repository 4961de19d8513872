"""The explorer's file: self-contained, bounded, and its numbers are the engine's."""

import base64
import json
import re

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm.errors import GraphError
from tinygrad_llm.explain.explorer.arrays import ArrayStore, corner_shape
from tinygrad_llm.explain.small_ops import small_ops


def data_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.S)[1])


def numbers(data, ref):
    array = data["arrays"][ref]
    return np.frombuffer(base64.b64decode(array["data"]), "<f4").reshape(array["kept"])


def test_page_needs_nothing_else(step):
    text = step.path.read_text(encoding="utf-8")
    assert not re.search(r'(src|href)="(?!#|data:)', text.partition('id="data"')[0])
    assert "<!--" not in re.sub(r"(?s)<script.*?</script>", "", text)
    assert "http" not in text.partition("</style>")[0]


def test_numbers_in_the_page_are_the_engines(step):
    data = data_of(step.path)
    by_name = {leaf["name"]: leaf for leaf in data["leaves"]}
    parameters = dict(step.model.named_parameters())
    assert by_name.keys() == parameters.keys()
    for name, p in parameters.items():
        np.testing.assert_array_equal(numbers(data, by_name[name]["value"]), p.data)
        np.testing.assert_allclose(
            numbers(data, by_name[name]["gradient"]), step.gradients[name], rtol=1e-6, atol=1e-9
        )
    last = data["nodes"][-1]
    assert numbers(data, last["outputs"][0]) == np.float32(step.loss.item())


def test_gradient_is_the_sum_of_what_arrived(step):
    data = data_of(step.path)
    several = 0
    for node in data["nodes"]:
        for k, ref in enumerate(node["dy"]):
            parts = [numbers(data, c["gradient"]) for c in node["arrived"] if c["output"] == k]
            if parts:
                np.testing.assert_allclose(numbers(data, ref), sum(parts), rtol=1e-5, atol=1e-8)
            several += len(parts) > 1
    assert several, "the residual stream is used twice"


def test_a_wrong_number_would_be_noticed(step):
    data = data_of(step.path)
    leaf = data["leaves"][0]
    right = numbers(data, leaf["gradient"]).copy()
    right.flat[0] += 1e-3
    with pytest.raises(AssertionError):
        np.testing.assert_allclose(numbers(data, leaf["gradient"]), right, rtol=1e-6, atol=1e-9)


def test_each_op_is_explained_once(step):
    data = data_of(step.path)
    assert set(data["ops"]) == {op.name for op in step.trace.ops}
    assert "def backward" in data["ops"]["layer_norm"]["backward"]
    assert data["ops"]["gelu"]["formula"].startswith("<table")
    assert "<math" in data["ops"]["gelu"]["doc"]


def test_large_arrays_are_cut_to_keep_the_page_small(tmp_path):
    x = tg.tensor(np.random.default_rng(0).normal(size=(300, 400)), requires_grad=True)
    with tg.trace(values=True) as t:
        (x * x).sum().backward()
    path = tg.explore(t, tmp_path / "cut.html", max_bytes=300_000)
    data = data_of(path)
    assert path.stat().st_size < 400_000
    value = data["leaves"][0]["value"]
    assert data["arrays"][value]["shape"] == [300, 400]
    kept = data["arrays"][value]["kept"]
    np.testing.assert_array_equal(
        numbers(data, value), x.data[: kept[0], : kept[1]].astype(np.float32)
    )
    assert data["arrays"][value]["norm"] == pytest.approx(np.linalg.norm(x.data))


def test_corner():
    assert corner_shape((2, 3), 6) == (2, 3)
    assert corner_shape((8, 100), 100) == (8, 7)
    for shape in [(5,), (7, 1000), (3, 4, 5, 6), ()]:
        kept = corner_shape(shape, 64)
        assert np.prod(kept) <= max(64, 1)
        assert all(k <= n for k, n in zip(kept, shape, strict=True))


def test_equal_arrays_are_stored_once():
    store = ArrayStore()
    a = store.add(np.ones((2, 3)))
    assert store.add(np.ones((2, 3))) == a
    assert store.add(np.ones((3, 2))) != a
    assert store.add(None) is None
    assert len(store.encode(10**6)) == 2


def test_infinities_and_nan_do_not_break_the_page(tmp_path):
    x = tg.tensor([0.0, 1.0, -1.0], requires_grad=True)
    with np.errstate(all="ignore"), tg.trace(values=True) as t:
        x.log().sum().backward()
    data = data_of(tg.explore(t, tmp_path / "nan.html"))
    ref = data["nodes"][0]["outputs"][0]
    assert data["arrays"][ref]["bad"] == 2
    np.testing.assert_array_equal(numbers(data, ref), [-np.inf, 0, np.nan])


def test_a_traced_loss_is_walked_for_the_page(tmp_path, step):
    with tg.trace(values=True) as t:
        loss = step.model.loss(step.ids, step.targets)
    data = data_of(tg.explore(loss, tmp_path / "loss.html"))
    assert sum(kind for kind, _ in data["events"]) == len(t.ops)


def test_without_a_trace_it_says_what_to_do(tmp_path):
    x = tg.tensor([1.0], requires_grad=True)
    with pytest.raises(GraphError, match=r"with tg.trace\(values=True\)"):
        tg.explore((x * x).sum(), tmp_path / "no.html")
    with tg.trace() as t:
        (x * x).sum().backward()
    with pytest.raises(GraphError, match="holds no values"):
        tg.explore(t, tmp_path / "no.html")
    with pytest.raises(GraphError, match="no op ran"):
        tg.explore(tg.trace(values=True), tmp_path / "no.html")


def test_small_ops_give_the_same_loss_and_gradients(step):
    gradients = {}
    for name in ("fused", "small"):
        tg.manual_seed(3)
        step.model.zero_grad()
        if name == "small":
            with small_ops(), tg.trace() as t:
                loss = step.model.loss(step.ids, step.targets)
        else:
            loss = step.model.loss(step.ids, step.targets)
        loss.backward()
        gradients[name] = [loss.data] + [p.grad.copy() for p in step.model.parameters()]
    for fused, small in zip(gradients["fused"], gradients["small"], strict=True):
        np.testing.assert_allclose(small, fused, rtol=1e-3, atol=1e-6)
    assert len(t.ops) > 100
    assert any(
        op.scope.endswith("attention_qkv.scaled_dot_product_attention")
        or "attention_qkv" in op.scope
        for op in t.ops
    )
    assert not {"gelu", "layer_norm", "attention_qkv"} & {op.name for op in t.ops}


def test_small_ops_can_keep_some_fused_and_restores_the_rest(step):
    with small_ops(keep=("gelu",)), tg.trace() as t:
        step.model.loss(step.ids, step.targets)
    assert "gelu" in {op.name for op in t.ops}
    with tg.trace() as t:
        step.model.loss(step.ids, step.targets)
    assert {"layer_norm", "attention_qkv"} <= {op.name for op in t.ops}
