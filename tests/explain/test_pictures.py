"""The numbers behind the pictures are right, and the pictures show them."""

import subprocess
import sys

import numpy as np
import pytest

import tinygrad_llm as tg
from tinygrad_llm import hints
from tinygrad_llm.errors import ConfigError, GraphError, IndexRangeError, ShapeError
from tinygrad_llm.explain import pictures

matplotlib = pytest.importorskip("matplotlib", reason="matplotlib is not installed")


@pytest.fixture
def model():
    tg.manual_seed(0)
    config = tg.nn.GPTConfig(
        vocab_size=11, context_length=6, n_layer=2, n_head=2, n_embd=8, dropout=0.2
    )
    return tg.nn.GPT(config)


IDS = [[1, 2, 3, 4, 5, 6]]
TARGETS = [[2, 3, 4, 5, 6, 7]]


def test_attention_weights_are_those_of_the_model(model):
    weights = pictures.attention_weights(model, IDS)
    assert [w.shape for w in weights] == [(1, 2, 6, 6)] * 2
    for w in weights:
        np.testing.assert_allclose(w.sum(axis=-1), 1, rtol=1e-6)
        assert (w[..., np.triu_indices(6, 1)[0], np.triu_indices(6, 1)[1]] == 0).all(), "causal"
    # Applied by hand in the first block they give what the block's attention gives.
    model.eval()
    block = model.blocks[0]
    x = model.token_embedding(IDS) + model.position_embedding(np.arange(6))
    v = block.attention.qkv(block.norm1(x)).data[..., 16:].reshape(1, 6, 2, 4).swapaxes(1, 2)
    y = (weights[0] @ v).swapaxes(1, 2).reshape(1, 6, 8)
    by_hand = block.attention.projection(tg.tensor(y)).data
    np.testing.assert_allclose(block.attention(block.norm1(x)).data, by_hand, rtol=1e-4, atol=1e-6)


def test_attention_maps_show_them_and_leave_the_mode_alone(model):
    figure = pictures.attention_maps(model, IDS[0], labels=list("abcdef"))
    assert model.training, "dropout was off only for the picture"
    weights = pictures.attention_weights(model, IDS)
    *axes, bar = figure.axes
    assert len(axes) == 4
    assert "weight" in bar.get_ylabel()
    shown = axes[3].images[0].get_array()
    np.testing.assert_allclose(shown.data, weights[1][0, 1])
    np.testing.assert_array_equal(shown.mask, np.triu(np.ones((6, 6), bool), 1))
    assert axes[3].get_facecolor() != (1.0, 1.0, 1.0, 1.0), "masked is no small weight"
    assert [t.get_text() for t in axes[0].get_xticklabels()] == list("abcdef")
    assert len(pictures.attention_maps(model, IDS, layer=1).axes) == 2 + 1


def test_attention_maps_errors(model):
    with pytest.raises(ShapeError, match="one sequence"):
        pictures.attention_maps(model, IDS * 2)
    with pytest.raises(ShapeError, match="6 labels"):
        pictures.attention_maps(model, IDS, labels=["a"])
    with pytest.raises(ConfigError, match=r"0 \.\. 1"):
        pictures.attention_maps(model, IDS, layer=2)


def test_gradient_flow(model):
    with pytest.raises(GraphError, match="backward"):
        pictures.gradient_flow(model)
    model.loss(IDS, TARGETS).backward()
    norms = pictures.gradient_norms(model)
    name = "blocks.1.norm1.bias"
    grad = dict(model.named_parameters())[name].grad
    assert norms[name][0] == pytest.approx(np.sqrt((grad**2).mean()))
    axis = pictures.gradient_flow(model).axes[0]
    lines = {line.get_label(): line for line in axis.lines}
    line = lines["norm1.bias"]
    np.testing.assert_allclose(line.get_ydata()[1], norms[name][0])
    assert list(line.get_xdata()) == [0, 1]
    relative = pictures.gradient_flow(model, relative=True).axes[0]
    other = {line.get_label(): line for line in relative.lines}["norm1.weight"]
    grad, value = norms["blocks.0.norm1.weight"]
    assert other.get_ydata()[0] == pytest.approx(grad / value)


def test_landscape_leaves_the_model_as_it_was(model):
    before = [p.data.copy() for p in model.parameters()]
    found = pictures.measure_landscape(model, IDS, TARGETS, size=5, radius=0.5)
    for p, x in zip(model.parameters(), before, strict=True):
        np.testing.assert_array_equal(p.data, x)
    model.eval()
    assert found.losses[2, 2] == pytest.approx(model.loss(IDS, TARGETS).item(), rel=1e-6)
    assert found.losses.std() > 0
    again = pictures.measure_landscape(model, IDS, TARGETS, size=5, radius=0.5)
    np.testing.assert_array_equal(found.losses, again.losses)
    with pytest.raises(ConfigError, match="odd"):
        pictures.loss_landscape(model, IDS, TARGETS, size=4)


def test_landscape_directions_have_the_length_of_the_rows():
    class Probe(tg.nn.Module):
        """Its loss is what a step changed, relative to the row."""

        def __init__(self):
            self.weight = tg.nn.Parameter(np.diag([1.0, 100.0]).astype(np.float32))
            self.home = self.weight.data.copy()

        def loss(self, ids, targets):
            moved = np.linalg.norm(self.weight.data - self.home, axis=1)
            return tg.tensor((moved / [1.0, 100.0]).max())

    found = pictures.measure_landscape(Probe(), None, None, size=3, radius=0.5)
    assert found.losses[0, 1] == pytest.approx(0.5, rel=1e-5)
    assert found.losses[1, 2] == pytest.approx(0.5, rel=1e-5)


def test_landscape_puts_the_model_back_after_an_error(model):
    before = model.token_embedding.weight.data.copy()
    with pytest.raises(ShapeError):
        pictures.measure_landscape(model, IDS, [[1]], size=3)
    np.testing.assert_array_equal(model.token_embedding.weight.data, before)


def test_landscape_picture(model):
    figure = pictures.loss_landscape(model, IDS, TARGETS, size=3)
    assert len(figure.axes) == 2


def test_principal_components_against_the_covariance():
    x = np.random.default_rng(0).normal(size=(40, 5)) @ np.diag([5, 3, 1, 1, 0.1])
    places, share = pictures.principal_components(x)
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    np.testing.assert_allclose(places.var(axis=0, ddof=1), values[:2])
    np.testing.assert_allclose(share, values[:2] / values.sum())
    with pytest.raises(ShapeError):
        pictures.principal_components(x[:1])


def test_analogy_and_neighbours():
    """Words made of two features, royal and female, with noise from other dimensions."""
    words = ["king", "queen", "man", "woman", "apple"]
    x = np.array([[1, 0, 0.1], [1, 1, 0], [0.1, 0, 1], [0, 1, 1], [-1, -1, 0.3]], np.float32)
    king, queen, man, woman, apple = range(5)
    best = pictures.analogy(x, [king, woman], [man])[0]
    assert words[best[0]] == "queen"
    assert pictures.neighbours(x, queen, k=2)[0][0] in (king, woman)
    assert apple not in [i for i, _ in pictures.neighbours(x, king, k=3)]
    assert len(pictures.neighbours(x, king, k=99)) == 4
    with pytest.raises(IndexRangeError, match=r"0 \.\. 4"):
        pictures.neighbours(x, 5)


def test_embedding_map(model):
    labels = [chr(97 + i) for i in range(11)]
    figure = pictures.embedding_map(model, labels)
    places, _ = pictures.principal_components(model.token_embedding.weight.data.astype(float))
    axis = figure.axes[0]
    np.testing.assert_allclose(axis.collections[0].get_offsets(), places, rtol=1e-6)
    assert [t.get_text() for t in axis.texts] == labels
    pictures.embedding_map(model, ["x", "y", " "], ids=[1, 2, 3])
    with pytest.raises(ShapeError, match="11 labels"):
        pictures.embedding_map(model, ["a"])


def test_figures_can_be_saved(model, tmp_path):
    pictures.attention_maps(model, IDS, labels=["$", "\n", " ", "", "é", "x"]).savefig(
        tmp_path / "a.png"
    )
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_what_to_install():
    code = (
        "import sys; sys.modules['matplotlib'] = sys.modules['matplotlib.figure'] = None\n"
        "import numpy as np\n"
        "from tinygrad_llm.errors import MissingDependencyError\n"
        "from tinygrad_llm.explain import pictures\n"
        "pictures.neighbours(np.eye(3), 0)\n"
        "try:\n    pictures.embedding_map(np.eye(3), 'abc')\n"
        "except MissingDependencyError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"Install it with: {hints.install('plot')}" in done.stdout
