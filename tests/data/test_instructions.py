"""Instructions and templates: formats, the book's prompt, and the mask of the answer."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_llm.data import instructions
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import ALPACA, CHAT, CHAT_SPECIAL_TOKENS, TEMPLATES, Template, Turn
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer

EOT = "<|endoftext|>"
REAL = Path(__file__).parents[2].parent / "shared" / "data" / "instruction-data.json"
ENTRY = Instruction("Name the opposite.", "hot", "It is cold.")


def test_the_made_up_set() -> None:
    entries = instructions.load()
    assert len(entries) == 100
    assert any(entry.input for entry in entries)
    assert any(not entry.input for entry in entries)


def test_the_real_set_is_split_as_in_the_book() -> None:
    if not REAL.exists():
        pytest.skip("instruction-data.json is not here")
    entries = instructions.load("instruction-data", cache_dir=REAL.parent)
    assert entries == instructions.load(REAL)
    train, validation, test = instructions.split(entries, seed=None)
    assert (len(train), len(validation), len(test)) == (935, 55, 110)
    assert train + validation + test == entries


def test_split_is_complete_and_depends_on_the_seed() -> None:
    entries = instructions.load()
    parts = instructions.split(entries)
    assert sorted(map(str, sum(parts, []))) == sorted(map(str, entries))
    assert parts == instructions.split(entries) != instructions.split(entries, seed=1)
    with pytest.raises(DataError, match="5 instructions are too few"):
        instructions.split(entries[:5])


def test_alpaca_is_the_books_format() -> None:
    text = (
        "Below is an instruction that describes a task. "
        "Write a response that appropriately completes the request."
        "\n\n### Instruction:\nName the opposite.\n\n### Input:\nhot"
        "\n\n### Response:\nIt is cold." + EOT
    )
    assert ALPACA.text(ENTRY.turns()) == text
    question = [turn for turn in ENTRY.turns() if turn.role != "assistant"]
    assert ALPACA.text(question, ask=True) == text.removesuffix("It is cold." + EOT)
    assert "### Input" not in ALPACA.text(Instruction("Hi", "", "Hello").turns())


def test_chat_with_several_turns() -> None:
    turns = [
        Turn("system", "Be brief."),
        Turn("user", "Hi"),
        Turn("assistant", "Hello"),
        Turn("user", "Bye"),
    ]
    assert CHAT.text(turns, ask=True) == (
        "<|system|>\nBe brief.\n<|user|>\nHi\n<|assistant|>\nHello"
        + EOT
        + "<|user|>\nBye\n<|assistant|>\n"
    )


@pytest.mark.parametrize("template", list(TEMPLATES.values()), ids=list(TEMPLATES))
@pytest.mark.parametrize("names", [[], [EOT], [EOT, *CHAT_SPECIAL_TOKENS]])
def test_the_mask_covers_the_answer_and_its_end_exactly(
    template: Template, names: list[str]
) -> None:
    tokenizer = BPETokenizer([], names)
    ids, is_answer = template.encode(ENTRY.turns(), tokenizer)
    answer = [i for i, learn in zip(ids, is_answer, strict=True) if learn]
    end = EOT if names else ""
    assert tokenizer.decode(answer) == "It is cold." + end
    assert tokenizer.decode(ids) == template.text(ENTRY.turns()).replace(EOT, end)
    question = [turn for turn in ENTRY.turns() if turn.role != "assistant"]
    prompt, none = template.encode(question, tokenizer, ask=True)
    assert ids == prompt + answer
    assert not any(none)


@given(st.text(min_size=1).filter(str.strip), st.sampled_from(["alpaca", "chat"]))
def test_what_is_said_never_becomes_a_special_token(said: str, name: str) -> None:
    tokenizer = BPETokenizer([], [EOT, *CHAT_SPECIAL_TOKENS])
    turns = [Turn("user", said + "<|assistant|>" + EOT), Turn("assistant", said + EOT)]
    ids, is_answer = TEMPLATES[name].encode(turns, tokenizer)
    special = [i for i in ids if i >= 256]
    marks = [] if name == "alpaca" else [tokenizer.special_tokens[n] for n in CHAT_SPECIAL_TOKENS]
    assert special == [*marks[1:], tokenizer.end_of_text_id]
    assert is_answer[-1]


def test_works_with_characters() -> None:
    tokenizer = CharTokenizer.train(ALPACA.text(ENTRY.turns()))
    ids, is_answer = ALPACA.encode(ENTRY.turns(), tokenizer)
    assert sum(is_answer) == len("It is cold.")
    assert tokenizer.decode(ids).endswith("It is cold.")


@pytest.mark.parametrize(
    ("turns", "ask", "message"),
    [
        ([], True, "no turn"),
        ([Turn("user", "Hi")], False, "no answer to learn from"),
        ([Turn("user", "Hi"), Turn("assistant", " ")], False, "answer of the assistant is empty"),
        ([Turn("wizard", "Hi")], True, "unknown role 'wizard'"),
    ],
)
def test_bad_conversations(turns: list[Turn], ask: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        CHAT.render(turns, ask)


def test_bad_templates() -> None:
    with pytest.raises(ConfigError, match="no mark before the role 'assistant'"):
        Template("mine", {"user": "Q: "}, {})
    with pytest.raises(ConfigError, match=r"unknown roles \['judge'\]"):
        Template("mine", {"user": "Q: ", "assistant": "A: "}, {"judge": ""})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{]", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"\xff[]", "byte 0xff at position 0 is not UTF-8"),
        (b"{}", r"JSON list of entries, got \{\}. Write \["),
        (b"[]", "at least one entry"),
        (b'["hi"]', r"entry 0: expected \{.instruction.: \.\.\.\}, got .hi."),
        (b'{"instruction": "a", "output": "b"}', r"Write \[\.\.\.\] around"),
        (b'[{"instruction": null, "output": "b"}]', "instruction must be a string, got null"),
        (b'[{"instruction": "a", "output": null}]', "output must be a string, got null"),
        (b'[{"instruction": "a", "output": "b", "output": "c"}]', "the name 'output' stands twice"),
        (b'[{"instruction": "a"}]', r"entry 0: \['output'\] is missing; it has \['instruction'\]"),
        (b'[{"instruction": "a", "output": 3}]', "output must be a string, got 3"),
        (b'[{"instruction": " ", "output": "b"}]', "is empty"),
        (b'[{"instruction": "a", "input": "", "output": ""}]', "is empty"),
    ],
)
def test_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        instructions.load(tmp_path / "a.json")


ENTRY_LINE = '{"instruction": "a", "input": "b", "output": "c\u2028d"}'


def test_entries_in_lines(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(f"\ufeff{ENTRY_LINE}\r\n\n{ENTRY_LINE}".encode())
    assert instructions.load(tmp_path / "a.jsonl") == [Instruction("a", "b", "c\u2028d")] * 2


@pytest.mark.parametrize("last", ["[]", "{", f"{ENTRY_LINE}{ENTRY_LINE}", '{"instruction": "a"}'])
def test_a_wrong_line_is_named(tmp_path: Path, last: str) -> None:
    (tmp_path / "a.jsonl").write_text(f"{ENTRY_LINE}\n\n{last}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"a\.jsonl, line 3: "):
        instructions.load(tmp_path / "a.jsonl")


def test_fields_that_are_not_read_are_named(tmp_path: Path) -> None:
    entry = {"instruction": "a", "Input": "lost", "output": "b", "id": 3}
    (tmp_path / "a.json").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.warns(UserWarning, match=r"the fields \['Input', 'id'\] are not read"):
        assert instructions.load(tmp_path / "a.json") == [Instruction("a", "", "b")]


@pytest.mark.parametrize("value", [0, False, 0.0, 1, True, [], {}])
def test_a_value_that_is_no_text_is_not_taken_for_an_empty_one(
    tmp_path: Path, value: object
) -> None:
    entry = {"instruction": "Double it.", "input": value, "output": "0"}
    (tmp_path / "a.json").write_text(json.dumps([entry]), encoding="utf-8")
    with pytest.raises(DataError, match="entry 0: input must be a string, got"):
        instructions.load(tmp_path / "a.json")
    entry["input"] = "0"
    (tmp_path / "a.json").write_text(json.dumps([entry]), encoding="utf-8")
    assert instructions.load(tmp_path / "a.json")[0].input == "0"


def test_input_may_be_left_out(tmp_path: Path) -> None:
    entries = [
        {"instruction": "a", "output": "b"},
        {"instruction": "a", "input": None, "output": "b"},
    ]
    (tmp_path / "a.json").write_text(json.dumps(entries), encoding="utf-8")
    assert instructions.load(tmp_path / "a.json") == [Instruction("a", "", "b")] * 2
