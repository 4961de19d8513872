"""A shard that is whole and of something else is not read as if it belonged to the folder."""

import json
import shutil

import pytest

from tinygrad_llm.data import TokenShards, tokenize_files
from tinygrad_llm.data.shards import INDEX, read_header, write_shard
from tinygrad_llm.data.tokenizing import shard_path
from tinygrad_llm.errors import DataError
from tinygrad_llm.tokenizers import CharTokenizer

TEXTS = ("to be or not to be\n" * 40, "to do or not to do\n" * 40)


def shards_of(folder, text):
    file = folder.with_suffix(".txt")
    file.write_text(text, encoding="utf-8")
    tokenize_files([file], folder, CharTokenizer.train(TEXTS), 1, shard_bytes=300, progress=False)
    return folder


@pytest.fixture
def folder(tmp_path):
    return shards_of(tmp_path / "one", TEXTS[0])


def test_a_shard_of_another_folder(folder, tmp_path):
    other = shards_of(tmp_path / "two", TEXTS[1])
    before = TokenShards(folder)[:]
    assert before.shape == TokenShards(other)[:].shape
    shutil.copy(shard_path(other, 1), shard_path(folder, 1))
    with pytest.raises(DataError, match=r"shard_000001.*another text or tokenizer"):
        TokenShards(folder)
    shards_of(folder, TEXTS[0])  # which makes that one anew
    assert (TokenShards(folder)[:] == before).all()


def test_two_shards_that_changed_places(folder):
    first, second = shard_path(folder, 0), shard_path(folder, 1)
    content = first.read_bytes(), second.read_bytes()
    first.write_bytes(content[1])
    second.write_bytes(content[0])
    with pytest.raises(DataError, match="of another place"):
        TokenShards(folder)


def test_a_folder_that_moved_with_its_text(folder, tmp_path):
    before = TokenShards(folder)[:]
    (tmp_path / "new").mkdir()
    for path in (folder, folder.with_suffix(".txt")):
        shutil.move(path, tmp_path / "new" / path.name)
    assert (TokenShards(tmp_path / "new" / folder.name)[:] == before).all()


def test_shards_of_older_folders_do_not_say(folder):
    before = TokenShards(folder)[:]
    for number in range(2):
        path = shard_path(folder, number)
        assert read_header(path).tag
        write_shard(path, TokenShards(path)[:])
    assert (TokenShards(folder)[:] == before).all()
    index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
    (folder / INDEX).write_text(json.dumps({"shards": index["shards"]}), encoding="utf-8")
    assert (TokenShards(folder)[:] == before).all()


@pytest.mark.parametrize(
    "index", ["[" * 100_000, "[]", "7", "null", '{"shards": 3}', '{"texts": 1, "shards": [[7]]}']
)
def test_a_damaged_index(folder, index):
    (folder / INDEX).write_text(index, encoding="utf-8")
    with pytest.raises(DataError, match="is damaged"):
        TokenShards(folder)
