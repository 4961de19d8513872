"""What all fine-tuning shares: the parts of a step that it chooses."""

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.finetuning.loop import FitSettings, fit, precision_for
from tinygrad_llm.training.steps.precision import Precision, ScaledLoss

IDS = np.random.default_rng(0).integers(0, 17, (12, 5))


def small_gpt(dtype="float32", n_embd=8):
    tg.manual_seed(0)
    return tg.nn.GPT(tg.nn.GPTConfig(17, 4, n_layer=1, n_head=1, n_embd=n_embd)).to(dtype)


def learn(model, dtype=None):
    def batch_of(numbers, few_shapes):
        return IDS[numbers, :-1], IDS[numbers, 1:]

    def evaluate():
        with tg.no_grad():
            return {"loss": model.loss(IDS[:, :-1], IDS[:, 1:]).item()}

    settings = FitSettings(epochs=6, batch_size=4, learning_rate=2e-2, dtype=dtype)
    return fit(model, [4] * 12, batch_of, lambda batch: model.loss(*batch), evaluate, settings)


def test_float16_learns_what_float32_learns():
    wide = learn(small_gpt()).column("loss")
    with np.errstate(over="ignore", invalid="ignore"):
        half = learn(small_gpt("float16")).column("loss")
    assert wide[-1] < wide[0] - 0.3
    np.testing.assert_allclose(half, wide, atol=0.1)


def test_only_weights_in_float16_that_learn_need_a_scale():
    assert type(precision_for(small_gpt())) is Precision
    model = small_gpt("float16")
    assert type(precision_for(model)) is ScaledLoss
    model.requires_grad_(False)
    assert type(precision_for(model)) is Precision


def test_bfloat16_on_a_cpu_rounds_operands_alone(matrix_units_on):
    model = small_gpt(n_embd=32)
    losses = learn(model, "bfloat16").column("loss")
    assert tg.get_float32_matmul_precision() == "highest"
    assert {p.data.dtype.name for p in model.parameters()} == {"float32"}
    with tg.float32_matmul_precision("medium"):
        assert learn(small_gpt(n_embd=32)).column("loss") == losses
    plain = learn(small_gpt(n_embd=32)).column("loss")
    assert plain != losses
    np.testing.assert_allclose(losses, plain, atol=0.05)


def test_a_model_is_left_in_the_type_that_it_learned_in():
    model = small_gpt()
    learn(model, "float64")
    assert {p.data.dtype.name for p in model.parameters()} == {"float64"}
