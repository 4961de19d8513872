"""The page's text, attention and names of axes are what the engine computed."""

from contextlib import nullcontext

import numpy as np
import pytest
from test_explorer import data_of, numbers

import tinygrad_llm as tg
from tinygrad_llm.errors import DataError
from tinygrad_llm.explain.explorer.axes import name_axes
from tinygrad_llm.explain.explorer.text import find_text
from tinygrad_llm.explain.pictures import attention_weights
from tinygrad_llm.explain.small_ops import small_ops


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """A sentence read by a GPT, with the default ops and with small ones."""
    return Read(tmp_path_factory.mktemp("read"))


class Read:
    def __init__(self, folder):
        tg.manual_seed(1)
        self.tokenizer = tg.tokenizers.CharTokenizer.train("to be, or\nnot")
        config = tg.nn.GPTConfig(
            vocab_size=self.tokenizer.vocab_size, context_length=5, n_layer=2, n_head=2, n_embd=8
        )
        self.model = tg.nn.GPT(config)
        ids = np.array([self.tokenizer.encode("to be,"), self.tokenizer.encode("or\nnot")])
        self.ids, self.targets = ids[:, :-1], ids[:, 1:]
        self.traces, self.pages = {}, {}
        for kind in ("default", "small"):
            if kind == "small":
                with small_ops(), tg.trace(values=True) as t:
                    self.loss = self.model.loss(self.ids, self.targets)
                    self.loss.backward()
            else:
                with tg.trace(values=True) as t:
                    self.loss = self.model.loss(self.ids, self.targets)
                    self.loss.backward()
            self.traces[kind] = t
            path = folder / f"{kind}.html"
            tg.explore(t, path, model=self.model, tokenizer=self.tokenizer)
            self.pages[kind] = data_of(path)


@pytest.mark.parametrize("kind", ["default", "small"])
def test_the_text_and_its_prediction(read, kind):
    text = read.pages[kind]["text"]
    assert text["tokens"] == [list("to·be"), ["o", "r", "⏎", "n", "o"]]
    assert text["targets"] == [list("o·be,"), ["r", "⏎", "n", "o", "t"]]
    with tg.no_grad():
        probs = read.model(read.ids).softmax(axis=-1).numpy()
    best = probs.argmax(axis=-1)
    signs = {" ": "·", "\n": "⏎"}
    letters = [[read.tokenizer.decode([i]) for i in row] for row in best]
    assert text["predicted"] == [[signs.get(c, c) for c in row] for row in letters]
    np.testing.assert_allclose(text["chance"], probs.max(axis=-1), rtol=1e-5)
    assert -np.log(text["target_chance"]).mean() == pytest.approx(read.loss.item(), rel=1e-5)
    assert len(text["vocabulary"]) == read.tokenizer.vocab_size


def test_the_prediction_is_there_with_the_loss(read):
    for kind, trace in read.traces.items():
        op = trace.ops[read.pages[kind]["text"]["op"]]
        assert op.name == {"default": "linear_cross_entropy", "small": "multiply"}[kind]


def test_without_a_tokenizer_tokens_are_ids(read, tmp_path):
    page = tg.explore(read.traces["default"], tmp_path / "ids.html", model=read.model)
    text = data_of(page)["text"]
    assert text["tokens"] == [[str(i) for i in row] for row in read.ids]
    assert "vocabulary" not in text


def test_a_step_without_text_has_none(tmp_path):
    x = tg.tensor([1.0, 2.0], requires_grad=True)
    with tg.trace(values=True) as t:
        (x * x).sum().backward()
    assert data_of(tg.explore(t, tmp_path / "x.html"))["text"] is None
    assert find_text(t, name_axes(t)) is None


def test_attention_of_the_default_ops_is_the_engines(read):
    data = read.pages["default"]
    nodes = [n for n in data["nodes"] if n["attention"]]
    right = attention_weights(read.model, read.ids)
    assert len(nodes) == len(right) == 2
    for node, weights in zip(nodes, right, strict=True):
        shown = numbers(data, node["attention"]["weights"])
        np.testing.assert_allclose(shown, weights, rtol=1e-6)
        np.testing.assert_allclose(shown.sum(axis=-1), 1, rtol=1e-6)
        hidden = numbers(data, node["attention"]["hidden"])
        np.testing.assert_array_equal(hidden[0, 0], np.triu(np.ones((5, 5)), 1))
        assert np.all(shown[hidden > 0] == 0)
        # the weights and v give what the op gave
        v = numbers(data, node["inputs"][0]["value"])[..., 16:].reshape(2, 5, 2, 4)
        y = np.einsum("bhts,bshd->bthd", shown, v).reshape(2, 5, 8)
        np.testing.assert_allclose(y, numbers(data, node["outputs"][0]), rtol=1e-4, atol=1e-6)


def test_attention_with_a_mask_and_queries_of_another_length(tmp_path):
    rng = np.random.default_rng(0)
    q, k, v = (tg.tensor(rng.normal(size=(1, 2, n, 4)), requires_grad=True) for n in (3, 4, 4))
    mask = np.array([True, True, False, True])
    with tg.trace(values=True) as t:
        y = tg.functional.scaled_dot_product_attention(q, k, v, mask=mask)
        y.sum().backward()
    data = data_of(tg.explore(t, tmp_path / "mask.html"))
    shown = data["nodes"][0]["attention"]
    weights = numbers(data, shown["weights"])
    np.testing.assert_array_equal(numbers(data, shown["hidden"])[0, 0], [[0, 0, 1, 0]] * 3)
    np.testing.assert_allclose(weights @ v.numpy(), y.numpy(), rtol=1e-5)


@pytest.mark.parametrize("kind", ["default", "small"])
def test_axes_have_the_names_of_their_sizes(read, kind):
    sizes = {"batch": 2, "position": 5, "head": 2, "vocabulary": read.tokenizer.vocab_size}
    data, named = read.pages[kind], set()
    for array in data["arrays"]:
        for name, size in zip(array["axes"], array["shape"], strict=False):
            assert size in (1, sizes.get(name, size)), (array["axes"], array["shape"])
            named.add(name)
    assert {"batch", "position", "head", "channel", "vocabulary"} <= named
    results = [data["arrays"][ref] for node in data["nodes"] for ref in node["outputs"]]
    assert all(array["axes"] and all(array["axes"]) for array in results if array["shape"])


def test_what_is_not_known_has_no_name(tmp_path):
    x = tg.tensor(np.ones((2, 3)), requires_grad=True)
    with tg.trace(values=True) as t:
        (x.transpose() @ x).sum().backward()
    data = data_of(tg.explore(t, tmp_path / "x.html"))
    assert not any(array["axes"] for array in data["arrays"])


def test_the_formula_is_that_of_the_option_in_use(tmp_path):
    x = tg.tensor([1.0], requires_grad=True)
    with tg.trace(values=True) as t:
        (tg.functional.gelu(x) + tg.functional.gelu(x, approximate="none")).backward()
    data = data_of(tg.explore(t, tmp_path / "x.html"))
    by_tanh, exact = (n["formula"] or data["ops"]["gelu"]["formula"] for n in data["nodes"][:2])
    assert "tanh" in by_tanh
    assert "erf" not in by_tanh
    assert "erf" in exact
    assert "tanh" not in exact


def test_a_page_that_cannot_be_written(read, tmp_path):
    with pytest.raises(DataError, match=r"absent/x\.html cannot be written \(No such file"):
        tg.explore(read.traces["default"], tmp_path / "absent" / "x.html")
    with pytest.raises(DataError, match="cannot be written"):
        tg.explore(read.traces["default"], tmp_path)


@pytest.mark.parametrize("kind", ["default", "small"])
def test_ignored_targets_are_none(read, kind, tmp_path):
    targets = read.targets.copy()
    targets[0, :2] = -100
    with small_ops() if kind == "small" else nullcontext(), tg.trace(values=True) as t:
        read.model.loss(read.ids, targets).backward()
    text = data_of(tg.explore(t, tmp_path / "page.html", tokenizer=read.tokenizer))["text"]
    assert text["targets"] == [[None, None, "b", "e", ","], ["r", "⏎", "n", "o", "t"]]


def test_of_two_steps_the_text_is_that_of_the_first(read, tmp_path):
    with tg.trace(values=True) as t:
        read.model.loss(read.ids, read.targets).backward()
        read.model.loss(read.ids[::-1], read.targets[::-1]).backward()
    text = data_of(tg.explore(t, tmp_path / "page.html", tokenizer=read.tokenizer))["text"]
    assert text == read.pages["default"]["text"]
