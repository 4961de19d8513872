from dataclasses import replace

import pytest

from tinygrad_llm.errors import CheckpointError, TokenizerError
from tinygrad_llm.finetuning.base_model import SMALL, open_base, pretrain
from tinygrad_llm.nn import GPT, Dropout, GPTConfig

TINY = replace(
    SMALL,
    n_layer=1,
    n_head=1,
    n_embd=16,
    context_length=16,
    vocab_size=280,
    steps=40,
    batch_size=4,
    eval_every=40,
    warmup=5,
)
TEXTS = ["the cat sat on the mat and saw the other cat", "a dog came in"] * 40


def test_a_new_base_model_learns_its_texts(capsys):
    base = pretrain(TEXTS, TINY, ("<|user|>",), name="cats")
    said = capsys.readouterr().out
    assert "on cats: 80 texts" in said
    assert {"<|endoftext|>", "<|user|>"} <= set(base.tokenizer.special_tokens)
    ids = base.tokenizer.encode_ordinary("the cat sat on the mat")
    loss = base.model.loss([ids[:-1]], [ids[1:]]).item()
    assert loss < 5, "an untrained model is at log(280) = 5.63"
    assert not base.model.training


def test_a_saved_model_is_opened_with_its_tokenizer(gpt, tokenizer, tmp_path):
    gpt.save_pretrained(tmp_path)
    with pytest.raises(TokenizerError):
        open_base(str(tmp_path))
    tokenizer.save(tmp_path)
    base = open_base(str(tmp_path), dropout=0.2)
    assert base.model.config.dropout == 0.2
    assert {m.p for m in base.model.modules() if isinstance(m, Dropout)} == {0.2}
    assert base.tokenizer.encode("home") == tokenizer.encode("home")


def test_a_tokenizer_of_another_model_is_refused(tokenizer, tmp_path):
    GPT(GPTConfig(100, 8, 1, 1, 16)).save_pretrained(tmp_path)
    tokenizer.save(tmp_path)
    with pytest.raises(CheckpointError, match="only 100"):
        open_base(str(tmp_path))
    with pytest.raises(CheckpointError):
        open_base(str(tmp_path / "nothing here" / "at all"))


def test_dropout_can_be_taken_out(gpt):
    gpt.set_dropout(0.3)
    gpt.set_dropout(0.0)
    gpt.train()
    assert gpt([[1, 2, 3]]).tolist() == gpt([[1, 2, 3]]).tolist()


def test_ctrl_c_ends_a_fit_with_the_best_weights_so_far(gpt, tokenizer):
    import signal

    from tinygrad_llm.data.instructions import Instruction
    from tinygrad_llm.data.templates import CHAT
    from tinygrad_llm.finetuning.instruction import encode_instructions, fit_instructions
    from tinygrad_llm.finetuning.loop import FitSettings

    examples = [Instruction("Say", "", "hello man")] * 8
    data = encode_instructions(examples, CHAT, tokenizer, 64)
    lines = []

    def interrupt(line):
        lines.append(line)
        if len(lines) == 3:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        fit_instructions(gpt, data, data, FitSettings(epochs=50, batch_size=4), report=interrupt)
    assert len(lines) == 3
    assert not gpt.training
