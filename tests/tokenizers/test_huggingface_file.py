"""Tokenizers as Hugging Face saves them: in one file, with added tokens, and of another kind."""

import json

import pytest

from tinygrad_llm import tokenizers
from tinygrad_llm.errors import TokenizerError
from tinygrad_llm.tokenizers import BPETokenizer, file_format, gpt2_files

EOT = "<|endoftext|>"
TEXT = "the cat and the hat, the end"


@pytest.fixture
def tokenizer():
    return BPETokenizer.train(TEXT, 263, [EOT])


def description(tokenizer, pairs=True):
    """The body of a tokenizer.json, with the fields that the library writes for GPT-2."""
    merges = tokenizer.to_dict()["merges"]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, **flags, "special": True}
            for name, i in tokenizer.special_tokens.items()
        ],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        },
        "post_processor": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "",
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": gpt2_files.visible_ids(tokenizer.ranks) | tokenizer.special_tokens,
            "merges": [merge.split(" ") for merge in merges] if pairs else merges,
        },
    }


def write(folder, body, **config):
    folder.mkdir(parents=True, exist_ok=True)
    text = body if isinstance(body, str) else json.dumps(body)
    (folder / "tokenizer.json").write_text(text, encoding="utf-8")
    if config:
        (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("listed", [True, False])
def test_the_one_file_is_the_whole_tokenizer(tokenizer, tmp_path, pairs, listed):
    body = description(tokenizer, pairs)
    if not listed:  # the library leaves added tokens out of the vocabulary
        del body["model"]["vocab"][EOT]
    again = tokenizers.load(write(tmp_path, body, add_prefix_space=False))
    assert again.to_dict() == tokenizer.to_dict()
    assert again.encode("the hat, wörld 123") == tokenizer.encode("the hat, wörld 123")


NOTHING = {"Sequence": {"id": "A", "type_id": 0}}
START = {"SpecialToken": {"id": "<|endoftext|>", "type_id": 0}}


@pytest.mark.parametrize(
    "processor",
    [
        None,
        {"type": "TemplateProcessing", "single": [NOTHING], "pair": [], "special_tokens": {}},
        {"type": "Sequence", "processors": [{"type": "ByteLevel"}, None]},
    ],
)
def test_a_last_stage_that_adds_nothing(tokenizer, tmp_path, processor):
    body = description(tokenizer) | {"post_processor": processor}
    assert tokenizers.load(write(tmp_path, body)).to_dict() == tokenizer.to_dict()


def _in(*path, value):
    def change(body):
        *way, last = path
        for name in way:
            body = body[name]
        body[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_in("pre_tokenizer", "add_prefix_space", value=True), "add_prefix_space is True"),
        (_in("pre_tokenizer", "use_regex", value=False), "use_regex is False"),
        (_in("pre_tokenizer", "type", value="Whitespace"), "pre_tokenizer.type is 'Whitespace'"),
        (_in("pre_tokenizer", value={"type": "ByteLevel"}), "add_prefix_space is True"),
        (_in("pre_tokenizer", value=None), "pre_tokenizer is missing"),
        (_in("normalizer", value={"type": "NFC"}), "normalizer is {'type': 'NFC'}"),
        (_in("post_processor", value={"type": "TemplateProcessing"}), "post_processor is"),
        (
            _in("post_processor", value={"type": "TemplateProcessing", "single": [START, NOTHING]}),
            "post_processor is",
        ),
        (
            _in("post_processor", value={"type": "Sequence", "processors": [{"type": "Bert"}]}),
            "post_processor is",
        ),
        (_in("post_processor", value={"type": "TemplateProcessing", "single": [3]}), "post_pro"),
        (_in("post_processor", value=[1]), "post_processor is"),
        (_in("model", "type", value="WordPiece"), "model.type is 'WordPiece'"),
        (_in("model", "dropout", value=0.1), "model.dropout is 0.1"),
        (_in("model", "end_of_word_suffix", value="</w>"), "end_of_word_suffix"),
        (_in("model", "ignore_merges", value=True), "ignore_merges is True"),
        (_in("model", value=[]), "model is missing, or no object"),
        (_in("model", "merges", value={}), "expected model.merges"),
        (_in("model", "merges", value=[["a"]]), "a merge must be two tokens"),
        (_in("model", "merges", value=[3]), "a merge must be two tokens"),
        (_in("model", "vocab", value={"a": 1.5}), "model.vocab, an object"),
        (_in("model", "vocab", "a", value=7), "token 'a' has id 7, expected 64"),
        (_in("added_tokens", value=[{"id": 3}]), "added_tokens is damaged"),
        (_in("added_tokens", value=[{"id": 999, "content": "<x>"}]), "'<x>' has id 999"),
        (_in("added_tokens", value=7), "added_tokens is damaged"),
        (_in("added_tokens", 0, "lstrip", value=True), "lstrip of '<|endoftext|>' is True"),
        (_in("added_tokens", 0, "single_word", value=True), "single_word of '<|endoftext|>' is"),
        (_in("added_tokens", value=[{"id": float("inf"), "content": "<x>"}]), "is damaged"),
        (_in("added_tokens", value=[{"id": 1.5, "content": "<x>"}]), "added_tokens is damaged"),
        (_in("added_tokens", value=[{"id": 9, "content": None}]), "added_tokens is damaged"),
        (_in("added_tokens", value=[{"id": 9, "content": "<\ud800>"}]), "of Unicode characters"),
    ],
)
def test_another_kind_or_a_damaged_file_is_refused(tokenizer, tmp_path, change, said):
    body = description(tokenizer)
    change(body)
    with pytest.raises(TokenizerError, match=said):
        tokenizers.load(write(tmp_path, body))


def test_special_tokens_may_come_first_as_the_library_trains_them(tokenizer, tmp_path):
    first, last = BPETokenizer(tokenizer.merges, ["<x>"], [EOT, "<pad>"]), tokenizer.encode(TEXT)
    assert first.special_tokens == {EOT: 0, "<pad>": 1, "<x>": tokenizer.vocab_size + 1}
    assert first.encode(TEXT) == [i + 2 for i in last]
    assert first.encode_readable(TEXT) == first.encode(TEXT)
    assert first.decode([0, *first.encode(TEXT), 1]) == f"{EOT}{TEXT}<pad>"
    again = tokenizers.load(write(tmp_path / "one", description(first)))
    assert again.to_dict() == first.to_dict()
    first.save(tmp_path / "own")
    assert tokenizers.load(tmp_path / "own").to_dict() == first.to_dict()
    for name in (file_format.FILE_NAME, "checksums.json"):
        (tmp_path / "own" / name).unlink()
    assert tokenizers.load(tmp_path / "own").to_dict() == first.to_dict()
    more = first.with_special_tokens(["<y>"])
    assert more.special_tokens == first.special_tokens | {"<y>": first.vocab_size}


def test_a_vocabulary_without_all_bytes_is_refused(tokenizer, tmp_path):
    body = description(tokenizer)
    del body["model"]["vocab"]["a"]
    with pytest.raises(TokenizerError, match="lacks 'a', which is one of the 256 bytes"):
        tokenizers.load(write(tmp_path, body))


def test_added_tokens_that_stand_in_any_text_are_named(tokenizer, tmp_path):
    body = description(tokenizer)
    body["added_tokens"][0]["special"] = False
    with pytest.warns(UserWarning, match=r"'<\|endoftext\|>'\] are not marked as special"):
        tokenizers.load(write(tmp_path, body))
    decoder = {str(tokenizer.vocab_size - 1): {"content": EOT, "rstrip": True}}
    with pytest.raises(TokenizerError, match=r"tokenizer_config\.json: rstrip of"):
        tokenizers.load(write(tmp_path, body, added_tokens_decoder=decoder))


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, "{}"])
def test_what_is_no_description_is_refused(tmp_path, text):
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        tokenizers.load(write(tmp_path, text))


@pytest.fixture
def foreign(tokenizer, tmp_path):
    """A folder with GPT-2's files, and not the own one."""

    def folder(tokenizer=tokenizer):
        tokenizer.save(tmp_path)
        for name in (file_format.FILE_NAME, "checksums.json"):
            (tmp_path / name).unlink()
        return tmp_path

    return folder


@pytest.mark.parametrize("name", ["add_prefix_space", "add_bos_token", "add_eos_token"])
def test_something_around_every_text_is_refused(foreign, name):
    path = foreign() / "tokenizer_config.json"
    body = json.loads(path.read_text(encoding="utf-8")) | {name: True}
    path.write_text(json.dumps(body), encoding="utf-8")
    with pytest.raises(TokenizerError, match=f"{name} is True"):
        tokenizers.load(path.parent)


def test_a_special_token_spelled_like_an_ordinary_one_has_its_own_id(tokenizer, foreign):
    more = tokenizer.with_special_tokens(["the"])
    assert tokenizers.load(foreign(more)).to_dict() == more.to_dict()
    assert more.encode("the", disallowed_special=()) != [more.special_tokens["the"]]


def test_ends_of_lines_and_byte_order_marks_of_other_systems(tokenizer, foreign):
    folder = foreign()
    for name in ("merges.txt", "vocab.json", "tokenizer_config.json"):
        content = (folder / name).read_bytes().replace(b"\n", b"\r\n")
        (folder / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert tokenizers.load(folder).to_dict() == tokenizer.to_dict()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("added_tokens.json", "[1]", "added_tokens.json: expected a JSON object"),
        ("added_tokens.json", '{"<x>": "a"}', "added_tokens.json: expected a JSON object of"),
        ("tokenizer_config.json", "{", "tokenizer_config.json: cannot be read"),
        ("tokenizer_config.json", '{"added_tokens_decoder": [1]}', "added_tokens_decoder is"),
        ("tokenizer_config.json", '{"added_tokens_decoder": {"x": {}}}', "added_tokens_decoder is"),
    ],
)
def test_damaged_files_beside_the_vocabulary(foreign, name, content, said):
    folder = foreign()
    (folder / name).write_text(content, encoding="utf-8")
    with pytest.raises(TokenizerError, match=said):
        tokenizers.load(folder)
