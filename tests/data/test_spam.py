"""Labelled messages: the real and the made-up set, splits, and every kind of bad file."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tinygrad_llm.data import spam
from tinygrad_llm.data.spam import Message
from tinygrad_llm.errors import ConfigError, DataError

REAL = Path(__file__).parents[2].parent / "shared" / "data" / "SMSSpamCollection.tsv"


def test_the_made_up_set() -> None:
    messages = spam.load()
    assert Counter(message.label for message in messages) == {"ham": 140, "spam": 60}
    assert len({message.text for message in messages}) == 200
    note = spam.MADE_UP.with_name("README.txt").read_text(encoding="utf-8")
    assert "made up" in note


def test_the_real_set_by_name_and_by_path() -> None:
    if not REAL.exists():
        pytest.skip("SMSSpamCollection.tsv is not here")
    messages = spam.load("sms-spam", cache_dir=REAL.parent)
    assert messages == spam.load(REAL)
    assert Counter(message.label for message in messages) == {"ham": 4827, "spam": 747}
    assert len(spam.balanced(messages)) == 2 * 747
    assert messages[0].text.startswith("Go until jurong point, crazy..")


def test_balanced_keeps_all_of_the_rare_label() -> None:
    messages = spam.load()
    balanced = spam.balanced(messages)
    assert Counter(message.label for message in balanced) == {"ham": 60, "spam": 60}
    assert balanced == spam.balanced(messages) != spam.balanced(messages, seed=1)
    positions = [messages.index(message) for message in balanced]
    assert positions == sorted(positions)


@pytest.mark.parametrize("balance", [False, True])
def test_split_is_complete_disjoint_and_keeps_proportions(balance: bool) -> None:
    messages = spam.balanced(spam.load()) if balance else spam.load()
    parts = spam.split(messages)
    assert sorted(m.text for part in parts for m in part) == sorted(m.text for m in messages)
    whole = Counter(m.label for m in messages)
    for part, fraction in zip(parts, (0.7, 0.1, 0.2), strict=True):
        for label, count in Counter(m.label for m in part).items():
            assert abs(count - fraction * whole[label]) <= 1.5
    assert parts == spam.split(messages) != spam.split(messages, seed=1)
    assert [m.label for m in parts[0]] != sorted(m.label for m in parts[0])


def test_class_ids() -> None:
    messages = [Message("spam", "a"), Message("ham", "b")]
    ids = spam.class_ids(messages)
    assert ids.dtype == np.int64
    assert ids.tolist() == [1, 0]
    with pytest.raises(DataError, match=r"labels \['spam'\] are unknown"):
        spam.class_ids(messages, labels=("ham", "eggs"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv", 'ham\tsaid "hi, you\nspam\twin\n'),
        ("a.tsv", '\n\nham\tsaid "hi, you\r\n\r\nSPAM\t win\t\r\n'),
        ("a.csv", 'label,text\nham,"said ""hi, you"\nspam,win\n'),
        ("a.csv", 'Text,id,Label\n"said ""hi, you",1,ham\nwin,2,spam\n'),
        ("kaggle.csv", 'v1,v2,,,\nham,"said ""hi, you",,,\nspam,win,,,\n'),
        ("a.csv", 'ham,"said ""hi, you"\nspam,win\n'),
    ],
)
def test_formats(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-8"))
    messages = spam.load(tmp_path / name)
    assert messages == [Message("ham", 'said "hi, you'), Message("spam", "win")]


def test_only_line_feeds_end_a_line(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("ham\ta\u2028b\x85c\x0bd\nspam\tx", encoding="utf-8")
    assert spam.load(tmp_path / "a.tsv")[0].text == "a\u2028b\x85c\x0bd"


def test_line_breaks_within_quotes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('label,text\nham,"two\nlines"\nspam,x\n', encoding="utf-8")
    assert spam.load(tmp_path / "a.csv")[0].text == "two\nlines"


def test_other_labels_and_encodings(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_bytes("pos\tschön\nneg\tschlecht\n".encode("latin-1"))
    messages = spam.load(path, labels=("neg", "pos"), encoding="latin-1")
    assert messages[0] == Message("pos", "schön")
    with pytest.raises(DataError, match="byte 0xf6 at position 7 is not UTF-8"):
        spam.load(path, labels=("neg", "pos"))
    with pytest.raises(DataError, match="unknown encoding 'latin-99'"):
        spam.load(path, encoding="latin-99")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "0 messages with the labels"),
        ("\n\n", "0 messages"),
        ("ham\ta\nham\tb\n", r"2 messages with the labels \['ham'\].*at least two"),
        ("ham\ta\nspam\n", "line 2: expected a label and a text"),
        ("ham,a\nspam,b\n", "neither a header"),
        ("kind\tbody\nham\ta\n", 'neither a header with the columns "label" and "text"'),
        ("ham\ta\neggs\tb\n", "line 2: the label 'eggs' is unknown"),
        ("ham\ta\nspam\t \n", "line 2: the message is empty"),
    ],
)
def test_bad_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.tsv").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        spam.load(tmp_path / "a.tsv")


def test_other_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        spam.load(tmp_path / "absent.tsv")
    with pytest.raises(DataError, match="list of messages is empty"):
        spam.split([])
    two = [Message("ham", "a"), Message("spam", "b")]
    with pytest.raises(DataError, match="1 messages labelled 'ham' are too few"):
        spam.split(two)
    for train, validation in ((0.9, 0.1), (0.0, 0.5), (0.5, -0.1)):
        with pytest.raises(ConfigError, match="must be positive"):
            spam.split(spam.load(), train, validation)
    with pytest.raises(ConfigError, match="seed"):
        spam.balanced(two, seed=-1)
