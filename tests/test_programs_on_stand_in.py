"""What programs consist of, with ``device="cuda"``, on the stand-in for CuPy: no NumPy mixed in.

Every op is tried on it in tests/backend/test_device.py; here the modules, optimizers, generation,
fine-tuning, checkpoints and pictures that use them; in test_examples_on_stand_in.py the example
programs.
"""

import copy

import numpy as np
import pytest

import tinygrad_llm as tg
from tests.finetuning.test_classification import NAMES, toy_messages
from tests.finetuning.test_instruction import EXAMPLES as INSTRUCTIONS
from tests.stand_in_gpu import DeviceArray, stand_in_gpu
from tinygrad_llm.backend.random import Generator
from tinygrad_llm.data.templates import CHAT, CHAT_SPECIAL_TOKENS
from tinygrad_llm.explain import pictures
from tinygrad_llm.finetuning import classification
from tinygrad_llm.finetuning.labelled_texts import encode_labelled
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.tokenizers import BPETokenizer

TEXT = "Win a free prize now! Are you coming home for dinner? Say hello to the man. mice mouse " * 9
TOKENIZER = BPETokenizer.train([TEXT], 300, ("<|endoftext|>", *CHAT_SPECIAL_TOKENS))
IDS = [[1, 5, 2, 7, 3], [4, 4, 9, 0, 2]]


@pytest.fixture
def gpu(monkeypatch):
    with stand_in_gpu(monkeypatch) as synchronizations:
        yield synchronizations


def gpt(device="cpu", context=48, **more):
    config = tg.nn.GPTConfig(TOKENIZER.vocab_size, context, n_layer=2, n_head=2, n_embd=16, **more)
    return tg.nn.GPT(config, Generator(3)).to(device)


def on_device(arrays):
    return all(isinstance(a, DeviceArray) for a in arrays)


def losses_and_weights(device, make_optimizer, **more):
    tg.manual_seed(1)
    model = gpt(device, **more)
    optimizer = make_optimizer(model)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = model.loss(IDS, IDS)
        loss.backward()
        tg.optim.clip_grad_norm(optimizer, 0.7)
        optimizer.step()
        losses.append(loss.item())
    arrays = optimizer.state_dict()["arrays"]
    assert device == "cpu" or on_device([p.data for p in model.parameters()] + [*arrays.values()])
    return losses + [float(tg.tensor(a).numpy().sum()) for a in arrays.values()]


@pytest.mark.parametrize(
    "make",
    [
        lambda m: tg.optim.AdamW(tg.optim.decay_groups(m, 0.1), lr=1e-2),
        lambda m: tg.optim.SGD(m, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda m: tg.optim.SGD(m, lr=0.1),
        lambda m: tg.optim.Adam(m, lr=1e-2, weight_decay=1e-3),
    ],
    ids=["AdamW", "Nesterov", "SGD", "Adam"],
)
@pytest.mark.parametrize("more", [{}, {"tie_weights": False, "qkv_bias": False, "dropout": 0.2}])
def test_optimizers(gpu, make, more):
    here, there = (losses_and_weights(device, make, **more) for device in ("cpu", "cuda"))
    np.testing.assert_allclose(here, there, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_with_master_weights(gpu, dtype):
    pytest.importorskip("ml_dtypes")
    model = gpt("cuda").to(dtype)
    optimizer = tg.optim.AdamW(model, lr=1e-2)
    first = model.loss(IDS, IDS)
    first.backward()
    tg.optim.clip_grad_norm(optimizer, 1.0)
    optimizer.step()
    assert model.loss(IDS, IDS).item() < first.item()
    assert on_device(p.data for p in model.parameters())


class Masked(tg.nn.Module):
    """A module with a buffer."""

    def __init__(self):
        self.register_buffer("later", tg.tensor(np.triu(np.ones((8, 8)), 1)))

    def forward(self, x):
        return x.masked_fill(self.later != 0, -2.0)


MODULES = {
    "a buffer": lambda d: (Masked().to(d), [(2, 8, 8)], {}),
    "activations": lambda d: (
        tg.nn.Sequential(tg.nn.ReLU(), tg.nn.GELU(), tg.nn.SiLU(), tg.nn.Softmax()),
        [(2, 8)],
        {},
    ),
    "squared error": lambda d: (tg.nn.MSELoss(), [(2, 8), (2, 8)], {}),
    "smoothed targets": lambda d: (
        tg.nn.CrossEntropyLoss(label_smoothing=0.1),
        [(2, 8)],
        {"targets": np.array([7, 0])},
    ),
    "cross attention": lambda d: (tg.nn.MultiHeadAttention(8, 2).to(d), [(2, 3, 8), (2, 5, 8)], {}),
    "attention with a mask": lambda d: (
        tg.nn.MultiHeadAttention(8, 2).to(d),
        [(2, 3, 8)],
        {"mask": np.tri(3, dtype=bool)},
    ),
    "feed-forward": lambda d: (tg.nn.FeedForward(8, 0.3).to(d), [(2, 3, 8)], {}),
    "block": lambda d: (tg.nn.TransformerBlock(8, 2, 0.1).to(d), [(2, 3, 8)], {}),
    "norm without bias": lambda d: (tg.nn.LayerNorm(8, bias=False).to(d), [(2, 8)], {}),
    "linear without bias": lambda d: (tg.nn.Linear(8, 3, bias=False).to(d), [(2, 8)], {}),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules(gpu, name):
    found = []
    for device in ("cpu", "cuda"):
        tg.manual_seed(2)
        module, shapes, options = MODULES[name](device)
        rng = np.random.default_rng(0)
        x = [
            tg.Tensor(rng.normal(size=s).astype(np.float32), device=device, requires_grad=True)
            for s in shapes
        ]
        options = {k: tg.Tensor(v, device=device).data for k, v in options.items()}
        y = module(*x, **options)
        (y * y).sum().backward()
        found.append([y.numpy(), *(tg.tensor(t.grad).numpy() for t in (*x, *module.parameters()))])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_initial_values_buffers_and_classes_stay_on_the_device(gpu):
    layer = tg.nn.Linear(4, 3).to("cuda")
    layer.register_buffer("seen", tg.tensor([1.0]).to("cuda"), persistent=False)
    fills = [tg.nn.init.normal_, tg.nn.init.xavier_uniform_, tg.nn.init.ones_]
    assert on_device(fill(layer.weight).data for fill in fills)
    assert on_device(b.data for b in layer.buffers())
    assert layer.cpu().cuda().half().seen.dtype == np.float16
    ids = tg.tensor([2, 0], device="cuda")
    assert tg.functional.one_hot(ids, 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_checkpointed_blocks_and_anomaly_mode(gpu):
    model, plain = gpt("cuda", dropout=0.1), gpt("cuda", dropout=0.1)
    model.checkpoint_blocks = True
    for m in (model, plain):
        tg.manual_seed(4)
        with tg.detect_anomaly():
            m.loss(IDS, IDS).backward()
    for a, b in zip(model.parameters(), plain.parameters(), strict=True):
        np.testing.assert_allclose(a.grad.get(), b.grad.get(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.8, "top_k": 5, "seed": 1},
        {"top_p": 0.9, "seed": 2, "use_cache": False},
    ],
)
def test_generation(gpu, options):
    here, there = gpt(), gpt("cuda")
    expected = tg.generate(here, [[1, 2, 3], [4, 5]], 6, **options)
    assert [list(row) for row in tg.generate(there, [[1, 2, 3], [4, 5]], 6, **options)] == [
        list(row) for row in expected
    ]


def test_beam_search_and_scoring(gpu):
    from tinygrad_llm.generation import beam_search, scoring

    found = []
    for device in ("cpu", "cuda"):
        model = gpt(device)
        beams = beam_search.beam_search(model, [1, 2, 3], 4, n_beams=3)
        scores = scoring.token_logprobs(model, TOKENIZER.encode(TEXT), stride=30)
        found.append(([b.ids.tolist() for b in beams], scores))
    assert found[0][0] == found[1][0]
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


def test_saving_and_loading(gpu, tmp_path):
    model = gpt("cuda")
    model.save_pretrained(tmp_path)
    again = tg.nn.GPT.from_pretrained(tmp_path, device="cuda")
    assert on_device(p.data for p in again.parameters())
    np.testing.assert_array_equal(model(IDS).numpy(), again(IDS).numpy())
    again.load_state_dict(copy.deepcopy(gpt().state_dict()))
    assert on_device(p.data for p in again.parameters())


def test_lora(gpu):
    model = gpt("cuda")
    tg.nn.apply_lora(model, rank=2)
    optimizer = tg.optim.AdamW(model, lr=1e-2)
    model.loss(IDS, IDS).backward()
    optimizer.step()
    before = model(IDS).numpy()
    tg.nn.merge_lora(model)
    np.testing.assert_allclose(model(IDS).numpy(), before, rtol=1e-4, atol=1e-5)


def test_fine_tuning(gpu):
    from tinygrad_llm.finetuning import instruction, preference

    settings = FitSettings(epochs=1, batch_size=4, learning_rate=1e-3, graph=False)
    classifier = classification.TextClassifier(gpt("cuda"), 2, generator=Generator(1))
    data = encode_labelled(*toy_messages(12, 0), TOKENIZER, NAMES, 40)
    classification.fit_classifier(classifier, data, data, settings)
    model = gpt("cuda")
    answers = instruction.encode_instructions(INSTRUCTIONS, CHAT, TOKENIZER, 48)
    instruction.fit_instructions(model, answers, answers, settings)
    pair = preference.Preference("Say hello", "Hello", "Call")
    pairs = preference.encode_preferences([pair] * 3, CHAT, TOKENIZER, 48)
    pairs = preference.with_reference(pairs, model)
    preference.fit_preferences(model, pairs, pairs, settings)
    assert on_device(p.data for p in (*classifier.parameters(), *model.parameters()))


def test_gradcheck_stays_on_the_device_of_its_inputs(gpu):
    seen = []
    tg.gradcheck(
        lambda x: seen.append(x.device) or (x * x).sum(),
        [tg.Tensor(np.ones(3, np.float32), device="cuda")],
    )
    assert set(seen) == {"cuda:0"}


def test_pictures_of_a_model_on_the_device(gpu):
    pytest.importorskip("matplotlib")
    model = gpt("cuda", dropout=0.1)
    model.loss(IDS, IDS).backward()
    pictures.gradient_flow(model)
    pictures.attention_maps(model, tg.Tensor(np.array(IDS[0]), device="cuda"))
    pictures.loss_landscape(model, IDS, IDS, size=3)
    weight = model.token_embedding.weight.data
    pictures.embedding_map(weight, [str(i) for i in range(len(weight))])
    assert pictures.neighbours(weight, 3) == pictures.neighbours(gpt(dropout=0.1), 3)


def test_a_gpu_that_is_not_there(gpu):
    with pytest.raises(tg.errors.DeviceError, match='the last of 1 is "cuda:0"'):
        gpt("cuda:1")
