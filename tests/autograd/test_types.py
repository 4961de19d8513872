"""What a type checker says of Tensors: misspelled methods are errors, results are Tensors."""

import re
from pathlib import Path

import pytest

import tinygrad_llm as tg

mypy = pytest.importorskip("mypy.api")
ROOT = Path(__file__).parents[2]
RESULTS = (
    "x + 1",
    "2 * x",
    "x @ x",
    "-x",
    "x > 0",
    "x[0]",
    "x.exp()",
    "x.sum(axis=0)",
    "x.mean()",
    "x.softmax(-1)",
    "x.reshape(1, 1)",
    "x.transpose(0, 1)",
    "x.T",
    "x.argmax()",
    "x.masked_fill(x > 0, 1.0)",
    "x.to('cpu')",
    "x.float()",
    "x.detach()",
    "x.add_(1)",
    "x.sort().values",
    "tg.functional.gelu(x)",
    "tg.functional.scaled_dot_product_attention(x, x, x)",
    "tg.functional.cross_entropy(x, [0])",
    "tg.exp([1.0])",
    "tg.cat([x, x])",
    "tg.zeros(2, 3)",
    "tg.tensor([[1.0, 2.0]])",
)


MISSPELT = (
    "tg.exxp",
    "tg.nn.Liner",
    "tg.functional.soft_max",
    "tg.optim.Adamw",
    "tg.nn.init.zero_",
)


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """Line -> what mypy says of it; line 1 imports, line 2 makes x."""
    lines = ["import tinygrad_llm as tg", "x = tg.ones(2, 2)", "x.sotfmax_typo()", "x = [1.0]"]
    lines += [f"reveal_type({code})" for code in RESULTS]
    lines += MISSPELT
    script = tmp_path_factory.mktemp("types") / "script.py"
    script.write_text("\n".join(lines), encoding="utf-8")
    out, errors, _ = mypy.run([str(script), "--config-file", str(ROOT / "pyproject.toml")])
    assert not errors
    return {int(n): said for n, said in re.findall(r"script\.py:(\d+): (.+)", out)}


@pytest.mark.slow
def test_a_method_that_does_not_exist_fails(checked):
    assert '"Tensor" has no attribute "sotfmax_typo"' in checked[3]
    assert "Incompatible types" in checked[4]
    assert 2 not in checked


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(RESULTS)), ids=RESULTS)
def test_a_result_is_a_tensor(checked, place):
    assert checked[5 + place] == 'note: Revealed type is "tinygrad_llm.autograd.tensor.Tensor"'


@pytest.mark.slow
@pytest.mark.parametrize("place", range(len(MISSPELT)), ids=MISSPELT)
def test_a_name_of_a_module_that_does_not_exist_fails(checked, place):
    name = MISSPELT[place].rpartition(".")[2]
    assert f'Module has no attribute "{name}"' in checked[5 + len(RESULTS) + place]


def test_at_run_time_the_nearest_name_is_suggested():
    x = tg.tensor([1.0])
    with pytest.raises(AttributeError, match=r"Did you mean Tensor\.softmax\?"):
        x.sotfmax()
    with pytest.raises(tg.errors.LeftOutError, match=r"tg\.graph\(x\)"):
        x.graph()


def test_a_name_that_is_private_is_not_suggested():
    with pytest.raises(AttributeError) as error:
        tg.tensor([1.0]).on_gradient  # near _seed_gradient
    assert str(error.value).startswith("Tensor has no attribute 'on_gradient'.")
    assert "_seed_gradient" not in str(error.value)
