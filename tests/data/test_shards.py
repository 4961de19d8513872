"""Token shards: written and read back, cut files, resumed work, and every kind of damage."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinygrad_llm import tokenizers
from tinygrad_llm.data import BatchLoader, TokenDataset, TokenShards, split_ids, tokenize_files
from tinygrad_llm.data.shards import read_header, verify_shard, write_shard
from tinygrad_llm.data.text_pieces import plan
from tinygrad_llm.data.tokenizing import shard_path
from tinygrad_llm.errors import ConfigError, DataError, TokenizerError
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer, WordTokenizer

EOT = "<|endoftext|>"
TEXT = "The cat sat.\n\n  \n日本 ü\u3000\nit's 12  \n\tend \r\nof\n\n\nlines\u2028\n" * 3


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(TEXT, 290, [EOT])


@given(st.lists(st.lists(st.integers(0, 65535)), min_size=1, max_size=5), st.data())
def test_shards_in_a_row_are_one_array(
    tmp_path_factory: pytest.TempPathFactory, contents: list, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    for i, content in enumerate(contents):
        write_shard(folder / f"{i}.tokens", np.array(content, np.uint16))
    whole = np.concatenate([np.array(c, np.uint16) for c in contents])
    shards = TokenShards(folder)
    assert len(shards) == len(whole)
    assert shards.shape == whole.shape
    start, stop = data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole)))
    assert np.array_equal(shards[start:stop], whole[start:stop])
    if start <= stop:
        part = shards.part(start, stop)
        assert np.array_equal(part[:], whole[start:stop])
        assert np.array_equal(part[1:-1], whole[start:stop][1:-1])


def test_batches_from_shards_equal_those_from_memory(tmp_path: Path) -> None:
    ids = np.arange(5000, dtype=np.uint32)
    for i, piece in enumerate(np.array_split(ids, 7)):
        write_shard(tmp_path / f"{i}.tokens", piece)
    shards = TokenShards(tmp_path)
    for left, right in zip(split_ids(ids, 0.3), split_ids(shards, 0.3), strict=True):
        a = BatchLoader(TokenDataset(left, 16), 4, seed=1)
        b = BatchLoader(TokenDataset(right, 16), 4, seed=1)
        for _ in range(30):
            assert np.array_equal(a.next_batch(), b.next_batch())


@pytest.mark.parametrize("kind", ["bpe", "word", "char"])
@pytest.mark.parametrize("shard_bytes", [1, 7, 40, 10_000])
def test_cutting_files_changes_no_token(
    tokenizer: BPETokenizer, tmp_path: Path, kind: str, shard_bytes: int
) -> None:
    texts = [TEXT, "short", "日本語。\r\n" * 20, "\n\n\n", "no newline at all " * 5]
    used = {
        "bpe": tokenizer,
        "word": WordTokenizer.train(texts),
        "char": CharTokenizer.train(texts, [EOT]),
    }[kind]
    files = []
    for i, text in enumerate(texts):
        files.append(tmp_path / f"{i}.txt")
        files[-1].write_bytes(text.encode("utf-8"))
    done = tokenize_files(files, tmp_path / "out", used, 1, shard_bytes, progress=False)
    expected = []
    for text in texts:
        expected += used.encode_ordinary(text.replace("\r\n", "\n")) + [used.end_of_text_id]
    assert TokenShards(tmp_path / "out")[:].tolist() == expected
    assert done.tokens == len(expected)
    assert done.documents == len(texts)
    assert (done.shards == 1) == (shard_bytes == 10_000)
    assert tokenizers.load(tmp_path / "out").to_dict() == used.to_dict()


@pytest.mark.parametrize(
    "line", [b"a line of text\n", b"lines of DOS\r\n", "日本語。 🙂\n".encode()]
)
def test_files_are_cut_into_pieces_of_about_the_size_asked_for(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(line * 10_000)
    tasks = list(plan([path, path], 20_000))
    sizes = [sum(p.stop - p.start for p in task) for task in tasks]
    assert sum(sizes) == 20_000 * len(line)
    assert all(20_000 <= size <= 20_020 for size in sizes[:-1])


def test_folders_hidden_and_binary_files(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "b.txt").write_bytes(b"\xef\xbb\xbfcat")
    (folder / "a.txt").write_text("end", encoding="utf-8")
    (folder / "empty.txt").write_text("", encoding="utf-8")
    (folder / "c.bin").write_bytes(b"\0\1")
    with pytest.warns(UserWarning, match=r"1 files are not UTF-8 text.* skipped: c\.bin"):
        tokenize_files([folder, folder / "a.txt"], tmp_path / "out", tokenizer, 1, progress=False)
    text = tokenizer.decode(TokenShards(tmp_path / "out")[:])
    assert text == f"end{EOT}cat{EOT}"


def test_special_spellings_in_files_stay_text(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(EOT, encoding="utf-8")
    tokenize_files([tmp_path / "a.txt"], tmp_path / "out", tokenizer, 1, progress=False)
    ids = TokenShards(tmp_path / "out")[:]
    assert (ids == tokenizer.end_of_text_id).tolist() == [False] * (len(ids) - 1) + [True]


def test_work_goes_on_where_it_stopped(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path, out = tmp_path / "a.txt", tmp_path / "out"
    path.write_text("a line of text\n" * 100, encoding="utf-8")
    first = tokenize_files([path], out, tokenizer, 1, 200, progress=False)
    ids = TokenShards(out)[:]
    shard_path(out, 2).unlink()
    damaged = bytearray(shard_path(out, 3).read_bytes())
    damaged[-1] ^= 1
    shard_path(out, 3).write_bytes(damaged)
    with pytest.raises(DataError, match="7 of 8 shards are there.*not finished"):
        TokenShards(out)
    again = tokenize_files([path], out, tokenizer, 1, 200, progress=False)
    assert (first.reused, again.reused) == (0, first.shards - 2)
    assert np.array_equal(TokenShards(out)[:], ids)


def test_several_processes_give_the_same_shards(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text(TEXT * 50, encoding="utf-8")
    one = tokenize_files([path], tmp_path / "one", tokenizer, 1, 3000, progress=False)
    two = tokenize_files([path], tmp_path / "two", tokenizer, 2, 3000, progress=False)
    assert one.shards == two.shards > 2
    for n in range(one.shards):
        left, right = (shard_path(tmp_path / name, n).read_bytes() for name in ("one", "two"))
        assert left == right


def test_an_error_in_a_worker_reaches_the_caller(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc\n" * 10 + "é\n", encoding="utf-8")
    tokenizer = CharTokenizer.train("abc\n")
    for workers in (1, 2):
        with pytest.raises(TokenizerError, match="U\\+00E9"):
            tokenize_files(
                [tmp_path / "a.txt"], tmp_path / "out", tokenizer, workers, 12, progress=False
            )


def test_other_work_in_the_folder_is_refused(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    path, out = tmp_path / "a.txt", tmp_path / "out"
    path.write_text("abc", encoding="utf-8")
    tokenize_files([path], out, tokenizer, 1, progress=False)
    with pytest.raises(DataError, match="was begun with another tokenizer, BPETokenizer"):
        tokenize_files([path], out, CharTokenizer.train("abc"), 1, progress=False)
    path.write_text("abcd", encoding="utf-8")
    with pytest.raises(DataError, match="holds shards of other files"):
        tokenize_files([path], out, tokenizer, 1, progress=False)
    (out / "index.json").write_text("[]", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be used"):
        tokenize_files([path], out, tokenizer, 1, progress=False)
    with pytest.raises(DataError, match="is damaged"):
        TokenShards(out)


def test_bad_input(tokenizer: BPETokenizer, tmp_path: Path) -> None:
    (tmp_path / "empty.txt").write_text("", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"abc\nd\xe9f\n")
    (tmp_path / "file").write_text("x", encoding="utf-8")
    out = tmp_path / "out"
    for files, message in [
        ([tmp_path / "absent.txt"], "no such file"),
        ([tmp_path / "empty.txt"], "no text to tokenize"),
        ([], "no file: there is no text"),
        ([tmp_path / "latin.txt"], "byte 0xe9 at position 5"),
    ]:
        with pytest.raises(DataError, match=message):
            tokenize_files(files, out, tokenizer, 1, progress=False)
    with pytest.raises(DataError, match="cannot be used"):
        tokenize_files([tmp_path / "file"], tmp_path / "file", tokenizer, 1, progress=False)
    for workers, size in ((0, 10), (1, 0)):
        with pytest.raises(ConfigError, match="at least 1"):
            tokenize_files([tmp_path / "file"], out, tokenizer, workers, size, progress=False)


@settings(max_examples=200)
@given(st.data())
def test_no_damage_goes_unnoticed(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("damage") / "0.tokens"
    write_shard(path, np.arange(50, dtype=np.uint16))
    good = path.read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    if data.draw(st.booleans()):
        damaged = good[:position]
    else:
        damaged = bytearray(good)
        damaged[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(damaged)
    with pytest.raises(DataError):
        TokenShards(path)


def test_messages_of_bad_shards(tmp_path: Path) -> None:
    path = tmp_path / "0.tokens"
    write_shard(path, np.arange(9, dtype=np.uint16))
    good = path.read_bytes()
    for content, message in [
        (b"not a shard at all", "not a token shard"),
        (good[:20] + b"\1" + good[21:], "header is damaged"),
        (good[:-2], "80 bytes, but its header says 82"),
        (good + b"\0", "83 bytes"),
    ]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=message):
            read_header(path)
    path.write_bytes(good[:-1] + b"\7")
    assert len(TokenShards(path, verify=False)) == 9
    with pytest.raises(DataError, match="do not fit their checksum"):
        verify_shard(path)
    write_shard(path, np.arange(9, dtype=np.uint16))
    write_shard(tmp_path / "1.tokens", np.arange(9, dtype=np.uint32))
    with pytest.raises(DataError, match="different tokenizers"):
        TokenShards(tmp_path)
    with pytest.raises(DataError, match="step 1"):
        TokenShards(path)[::2]
    with pytest.raises(DataError, match="no token shards"):
        TokenShards([])
    with pytest.raises(DataError, match="cannot be read"):
        TokenShards(tmp_path / "absent.tokens")
    with pytest.raises(DataError, match="uint16 or uint32"):
        write_shard(path, np.arange(9))
    with pytest.raises(DataError, match="cannot be written"):
        write_shard(path / "inside" / "0.tokens", np.arange(9, dtype=np.uint16))


SMALL_MEMORY = """
import json, resource, sys
from tinygrad_llm.data import BatchLoader, TokenDataset, TokenShards
used = int(open("/proc/self/status").read().split("VmData:")[1].split()[0]) * 1024
resource.setrlimit(resource.RLIMIT_DATA, (used + (24 << 20),) * 2)
loader = BatchLoader(TokenDataset(TokenShards(sys.argv[1]), 256), 8, random_crops=True)
total = 0
for _ in range(3000):
    total += int(loader.next_batch()[0].sum())
print(json.dumps(total))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_shards_larger_than_the_memory_that_is_allowed(tmp_path: Path) -> None:
    for i in range(4):
        ids = np.random.default_rng(i).integers(0, 60_000, 8 << 20).astype(np.uint16)
        write_shard(tmp_path / f"{i}.tokens", ids)  # 16 MiB each, 64 MiB together
    run = subprocess.run(
        [sys.executable, "-c", SMALL_MEMORY, str(tmp_path)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) > 0
