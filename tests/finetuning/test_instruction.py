import numpy as np
import pytest

from tinygrad_llm.autograd import no_grad
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import ALPACA, CHAT
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.finetuning.collate import IGNORE, pack
from tinygrad_llm.finetuning.instruction import (
    collate,
    encode_instructions,
    evaluate_instructions,
    fit_instructions,
    masked_loss,
    packed_loss,
)
from tinygrad_llm.finetuning.loop import FitSettings

EXAMPLES = [
    Instruction("What is the plural?", "mouse", "mice."),
    Instruction("Say hello to the man.", "", "Hello man, see you at the station."),
    Instruction("Claim", "", "your cash"),
]


@pytest.fixture
def data(tokenizer):
    return encode_instructions(EXAMPLES, CHAT, tokenizer, max_length=64)


def loss_token_by_token(gpt, example, template, tokenizer):
    """-log p of each answer token, each from a pass of its own over what stands before it."""
    ids, is_answer = template.encode(example.turns(), tokenizer)
    losses = []
    for t in range(1, len(ids)):
        if is_answer[t]:
            with no_grad():
                logits = gpt([ids[:t]]).numpy()[0, -1].astype(np.float64)
            losses.append(np.logaddexp.reduce(logits) - logits[ids[t]])
    return losses


def test_masked_loss_equals_a_loop_over_single_tokens(gpt, data, tokenizer):
    losses = [loss_token_by_token(gpt, e, CHAT, tokenizer) for e in EXAMPLES]
    inputs, targets = collate(data, [0, 1, 2])
    expected = np.concatenate(losses).mean()
    assert masked_loss(gpt, inputs, targets).item() == pytest.approx(expected, rel=1e-5)
    assert evaluate_instructions(gpt, data)["loss"] == pytest.approx(expected, rel=1e-5)


def test_every_answer_token_counts_the_same_whatever_its_batch(gpt, tokenizer):
    examples = [Instruction("Say", "", "late " * (n % 9) + "home") for n in range(24)]
    data = encode_instructions(examples, CHAT, tokenizer, 64)  # two batches of unlike lengths
    nats = tokens = 0
    for i in range(len(examples)):
        inputs, targets = collate(data, [i])
        n = int((targets != IGNORE).sum())
        nats, tokens = nats + masked_loss(gpt, inputs, targets).item() * n, tokens + n
    got = evaluate_instructions(gpt, data)
    assert got["loss"] == pytest.approx(nats / tokens, rel=1e-5)
    assert got["perplexity"] == pytest.approx(np.exp(nats / tokens), rel=1e-4)


def test_the_loss_counts_the_answer_and_its_end_and_nothing_else(data, tokenizer):
    for example, targets in zip(EXAMPLES, data.targets, strict=True):
        counted = [t for t in targets if t != IGNORE]
        assert tokenizer.decode(counted) == example.output + "<|endoftext|>"


def test_the_prompt_gets_no_gradient_as_a_target(gpt, data):
    """Changing what stands in ignored targets changes nothing; counted targets do."""
    inputs, targets = collate(data, [0, 1])
    loss = masked_loss(gpt, inputs, targets)
    loss.backward()
    gradient = gpt.token_embedding.weight.grad.copy()
    gpt.zero_grad()
    unmasked = np.where(targets == IGNORE, 0, targets)
    masked_loss(gpt, inputs, unmasked).backward()
    assert np.abs(gpt.token_embedding.weight.grad - gradient).max() > 1e-3


def test_packed_examples_do_not_see_each_other(gpt, data, tokenizer):
    packed = pack(data.inputs, data.targets, length=64, fill=0)
    assert len(packed.ids) < len(data.inputs), "something is packed"
    alone = masked_loss(gpt, *collate(data, [0, 1, 2])).item()
    assert packed_loss(gpt, packed).item() == pytest.approx(alone, rel=1e-5)
    leaking = type(packed)(packed.ids, packed.targets, packed.positions, packed.mask | True)
    assert abs(packed_loss(gpt, leaking).item() - alone) > 1e-4


def test_padded_and_unpadded_batches_give_equal_logits(gpt, data):
    inputs, _ = collate(data, [0, 1, 2])
    with no_grad():
        batch = gpt(inputs).numpy()
        for row, n, out in zip(data.inputs, data.lengths, batch, strict=True):
            np.testing.assert_allclose(gpt([row]).numpy()[0], out[:n], atol=2e-6)


@pytest.mark.parametrize("packing", [False, True])
def test_overfitting_shows_and_early_stopping_ends_it(gpt, tokenizer, packing):
    """Answers at random cannot be learned, only learned by heart."""
    rng = np.random.default_rng(0)
    words = ["home", "prize", "dinner", "call", "mice", "cash", "late", "text"]
    examples = [
        Instruction(" ".join(rng.choice(words, 3)), "", " ".join(rng.choice(words, 4)))
        for _ in range(20)
    ]
    train, validation = (
        encode_instructions(part, CHAT, tokenizer, 64) for part in (examples[:12], examples[12:])
    )
    settings = FitSettings(epochs=60, batch_size=4, learning_rate=5e-3, patience=3)
    history = fit_instructions(gpt, train, validation, settings, packing)
    losses = history.column("loss")
    assert "early stopping" in history.stopped_by
    assert len(losses) - 1 - history.best == 3
    assert losses[-1] > losses[history.best]
    assert history.losses[-1][1] < history.losses[0][1] / 2
    kept = evaluate_instructions(gpt, validation)["loss"]
    assert kept == pytest.approx(losses[history.best], rel=1e-6)


def test_long_examples_are_skipped_cut_or_refused(tokenizer):
    examples = [EXAMPLES[0], Instruction("Say it", "", "late " * 60)]
    data = encode_instructions(examples, CHAT, tokenizer, 30)
    assert (len(data.inputs), data.skipped) == (1, 1)
    data = encode_instructions(examples, CHAT, tokenizer, 30, too_long="truncate")
    assert (data.lengths[1], data.skipped) == (30, 0)
    assert data.targets[1][-1] != IGNORE
    with pytest.raises(DataError, match="example 1 has .* tokens, more than 30"):
        encode_instructions(examples, CHAT, tokenizer, 30, too_long="error")
    with pytest.raises(ConfigError, match="too_long"):
        encode_instructions(examples, CHAT, tokenizer, 30, too_long="maybe")


def test_a_prompt_that_fills_the_context_leaves_nothing_to_learn(tokenizer):
    with pytest.raises(DataError, match="no example is left"):
        encode_instructions(EXAMPLES, ALPACA, tokenizer, 4, too_long="truncate")
    with pytest.raises(DataError, match="no example is left"):
        encode_instructions([], CHAT, tokenizer, 64)


def test_other_words_of_the_system(tokenizer):
    usual = encode_instructions(EXAMPLES[:1], ALPACA, tokenizer, 200)
    other = encode_instructions(EXAMPLES[:1], ALPACA, tokenizer, 200, system="Be brief.")
    assert tokenizer.decode(usual.inputs[0]).startswith("Below is an instruction")
    assert tokenizer.decode(other.inputs[0]).startswith("Be brief.\n\n### Instruction:")
