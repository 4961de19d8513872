"""Tables of labels and texts: every row is read whole, or the file is refused with its line."""

import csv
from pathlib import Path

import pytest

from tinygrad_llm.data import spam
from tinygrad_llm.data.tables import Row, read_rows
from tinygrad_llm.errors import ConfigError, DataError


def rows_of(content, name="a.csv", labels=("ham", "spam")):
    return list(read_rows(Path(name), content, labels))


def pairs_of(*arguments, **options):
    return [(row.label, row.text) for row in rows_of(*arguments, **options)]


LINES = [f"{('ham', 'spam')[i % 2]},message number {i}" for i in range(100)]


def with_line(line, number=39):
    return "\n".join([*LINES[:number], line, *LINES[number + 1 :]])


@pytest.mark.parametrize("before", ["label,text\n", ""])
@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('ham,"Hi there', "a quote is not closed"),
        ('ham,"Hi" there', "text follows behind the closing one"),
        ('ham,"""Hi there', "a quote is not closed"),
    ],
)
def test_a_stray_quote_in_a_csv_is_named_with_its_line(before, line, said):
    number = 40 + (before != "")
    with pytest.raises(DataError, match=rf"a\.csv, line {number}: .*{said}"):
        rows_of(before + with_line(line))


def test_a_stray_quote_that_another_one_closes_swallows_no_rows():
    content = with_line('ham,"Hi there').replace("number 60", 'number 60"')
    with pytest.raises(DataError, match=r"line 40: a quote opens here and closes in line 61"):
        rows_of(content)
    text_first = "text,label\n" + "\n".join(",".join(x.split(",")[::-1]) for x in LINES)
    content = text_first.replace("message number 39", '"message number 39')
    with pytest.raises(DataError, match=r"line 41: a quote"):
        rows_of(content.replace("number 60", 'number 60"'))


@pytest.mark.parametrize(
    "content",
    [
        'ham,"Hi\nspam,a\nHam.,b\nham,c\nspam,"\n',  # a label of a swallowed row is wrong, too
        'ham,"a"",\nspam,", b"\nspam,c\n',
        '"label","text\nham","a"\nspam,b\n',
    ],
)
def test_a_stray_quote_with_other_faults_swallows_no_rows(content):
    with pytest.raises(DataError, match=r"a quote|neither a header"):
        rows_of(content)


def test_line_breaks_within_quotes_are_text():
    said = "ham and eggs\nspam, ham, and eggs\n\nI like ham"
    assert pairs_of(f'ham,"{said}"\nspam,Win\n') == [("ham", said), ("spam", "Win")]


def test_quotes_are_ordinary_characters_between_tabs():
    content = 'ham\t"Hi" there\nspam\t"open\nham\tlast"\n'
    assert [text for _, text in pairs_of(content, "a.tsv")] == ['"Hi" there', '"open', 'last"']


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.tsv", "ham\tone\ttwo\nspam\tWin\n", "one\ttwo"),
        ("a.tsv", "label\ttext\nham\tone\ttwo\t\nspam\tWin\n", "one\ttwo"),
        ("a.csv", "ham,one, two\nspam,Win\n", "one, two"),
        ("kaggle.csv", 'v1,v2,,,\nham,"one, two", three,,\nspam,Win,,,\n', "one, two, three"),
        ("a.csv", "id,label,text\n1,ham,one,two\n2,spam,Win\n", "one,two"),
        ("a.csv", "label,text,date\nham,one,today\nspam,Win,\n", "one"),
    ],
)
def test_a_separator_in_the_last_column_belongs_to_the_text(name, content, text):
    assert pairs_of(content, name) == [("ham", text), ("spam", "Win")]


@pytest.mark.parametrize("content", ["text,label\none, two,ham\n", "text,label,id\na,b,ham,1\n"])
def test_a_separator_in_another_column_is_refused(content):
    with pytest.raises(DataError, match="line 2: .* columns, but the header names"):
        rows_of(content)


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_a_text_of_any_length(name):
    separator = "," if name == "a.csv" else "\t"
    limit, long = csv.field_size_limit(), "x" * 200_000
    content = f"ham{separator}{long}\nspam{separator}Win\n"
    assert pairs_of(content, name) == [("ham", long), ("spam", "Win")]
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
@pytest.mark.parametrize("end", ["\r", "\n"])
def test_old_ends_of_lines(name, end):
    separator = "," if name == "a.csv" else "\t"
    content = end.join([f"ham{separator}Hello", f"spam{separator}Win", f"ham{separator}Hi", ""])
    assert [row.line for row in rows_of(content, name)] == [1, 2, 3]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_files_of_several_systems_put_together(name):
    content = "ham,a\rspam,b\nham,c\rham,d".replace(",", "," if name == "a.csv" else "\t")
    assert pairs_of(content, name) == [("ham", "a"), ("spam", "b"), ("ham", "c"), ("ham", "d")]
    with pytest.raises(DataError, match="line 2: expected a label and a text"):
        rows_of("ham\tone\rtwo\nspam\tb\n", "a.tsv")


def test_two_columns_of_one_name():
    with pytest.raises(DataError, match="2 columns are named 'text'"):
        rows_of("label,text,text\nham,a,b\n")


@pytest.mark.parametrize(
    "content",
    [
        "ham \tHello\nspam\tWin\n",
        "HAM\tHello\n Spam\tWin\n",
        "label\ttext\nHam\tHello\nspam\tWin\n",
    ],
)
def test_case_and_blanks_of_a_label_do_not_matter(content):
    assert pairs_of(content, "a.tsv") == [("ham", "Hello"), ("spam", "Win")]


def test_labels_come_back_as_they_were_asked_for():
    labels = ("Negative ", "Positive")
    found = rows_of("label,text\nNEGATIVE,bad\npositive,good\n", labels=labels)
    assert found == [Row(2, "Negative ", "bad"), Row(3, "Positive", "good")]
    assert pairs_of("Negative,bad\n", labels=labels) == [("Negative ", "bad")]


@pytest.mark.parametrize("labels", ["ham", ("ham", "Ham "), ("ham", " ")])
def test_labels_must_differ(labels):
    with pytest.raises(ConfigError, match="list of different words"):
        rows_of("ham,a\n", labels=labels)


def test_a_byte_order_mark_is_no_part_of_a_label(tmp_path):
    (tmp_path / "a.csv").write_text("ham,a\nspam,b\n", encoding="utf-8-sig")
    assert [m.label for m in spam.load(tmp_path / "a.csv")] == ["ham", "spam"]
