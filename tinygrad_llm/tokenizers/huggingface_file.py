"""``tokenizer.json``, the one file in which transformers 5 saves a tokenizer.

It describes a pipeline: normalizer, pre-split, model, and what is put around the result. GPT-2's
is a byte-level BPE whose other stages do nothing. A file in which one does something is refused,
since its ids would be others than those computed here.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tinygrad_llm.backend import strict_json
from tinygrad_llm.errors import TokenizerError

NAME = "tokenizer.json"
CONFIG_NAME = "tokenizer_config.json"

_MODEL_DEFAULTS: dict[str, object] = {
    "type": "BPE",
    "dropout": None,
    "continuing_subword_prefix": None,
    "end_of_word_suffix": None,
    "ignore_merges": False,
}
_GPT2_SPLIT = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_LIBRARY_DEFAULTS = {"add_prefix_space": True, "use_regex": True}


def parse(path: Path) -> tuple[list[str], dict[str, int], dict[str, int]]:
    """The merges as lines, token -> id, and the added tokens -> id.

    Raises:
        TokenizerError: unreadable, damaged, or a tokenizer of another kind than GPT-2's.
    """
    body = _read_object(path)
    model = _object(path, body, "model")
    for name, wanted in _MODEL_DEFAULTS.items():
        if (found := model.get(name, wanted) or wanted) != wanted:
            raise _unlike_gpt2(path, f"model.{name}", found, wanted)
    _check_stages(path, body)
    merges, ids = model.get("merges"), _object(path, model, "vocab")
    if not isinstance(merges, list) or not _is_table_of_ids(ids):
        raise TokenizerError(
            f"{path}: expected model.merges, a list, and model.vocab, an object of token -> id."
        )
    return [_line(path, merge) for merge in merges], ids, _added(path, body)


def _line(path: Path, merge: object) -> str:
    """A merge as ``"a b"``; newer files have pairs."""
    if isinstance(merge, list) and len(merge) == 2 and all(isinstance(m, str) for m in merge):
        return " ".join(merge)
    if not isinstance(merge, str):
        raise TokenizerError(f"{path}: a merge must be two tokens, got {merge!r:.60}.")
    return merge


def _check_stages(path: Path, body: Mapping[str, Any]) -> None:
    """Refuse stages that change the text or the ids."""
    split = {**_LIBRARY_DEFAULTS, **_object(path, body, "pre_tokenizer")}
    for name, value in _GPT2_SPLIT.items():
        if split.get(name) != value:
            raise _unlike_gpt2(path, f"pre_tokenizer.{name}", split.get(name), value)
    if body.get("normalizer") is not None:
        raise _unlike_gpt2(path, "normalizer", body["normalizer"], None)
    if not _adds_nothing(body.get("post_processor")):
        raise _unlike_gpt2(path, "post_processor", body["post_processor"], None)


def _adds_nothing(processor: object) -> bool:
    """Whether what comes behind the model leaves the ids of a text as they are."""
    if not isinstance(processor, dict):
        return processor is None
    kind = processor.get("type")
    if kind == "TemplateProcessing":  # such as ``[CLS] $A``; transformers 5 writes ``$A``
        single = processor.get("single")
        pieces = single if isinstance(single, list) else []
        return [isinstance(piece, dict) and "Sequence" in piece for piece in pieces] == [True]
    if kind == "Sequence":
        inner = processor.get("processors")
        return isinstance(inner, list) and all(map(_adds_nothing, inner))
    return kind == "ByteLevel"  # which changes offsets alone


def _added(path: Path, body: Mapping[str, Any]) -> dict[str, int]:
    listed = body.get("added_tokens") or []
    try:
        added = {token["content"]: token["id"] for token in listed}
    except (TypeError, KeyError) as error:
        raise TokenizerError(f"{path}: added_tokens is damaged ({error!r:.200}).") from error
    if not _is_table_of_ids(added):
        raise TokenizerError(f"{path}: added_tokens is damaged: expected a content and an id each.")
    _check_added(path, listed)
    return added


def _check_added(path: Path, tokens: Collection[Mapping[str, Any]]) -> None:
    """Refuse an added token that takes the text beside it; name those that stand in any text."""
    for token in tokens:
        for name in ("lstrip", "rstrip", "single_word"):
            if token.get(name):
                raise _unlike_gpt2(path, f"{name} of {token['content']!r:.40}", token[name], False)
    ordinary = [token["content"] for token in tokens if not token.get("special", True)]
    if ordinary:
        warnings.warn(
            f"{path}: the added tokens {ordinary!r:.80} are not marked as special: other programs "
            "find them in any text. Here they are found where special tokens are allowed.",
            stacklevel=2,
        )


def added_tokens(folder: Path) -> dict[str, int]:
    """The tokens that the files beside a vocabulary add to it; none where there are no such files.

    Raises:
        TokenizerError: one is damaged, or says that something is put around every text.
    """
    added: dict[str, int] = {}
    if (path := folder / "added_tokens.json").is_file():
        added = _read_object(path)
        if not _is_table_of_ids(added):
            raise TokenizerError(f"{path}: expected a JSON object of token -> id.")
    if not (path := folder / CONFIG_NAME).is_file():
        return added
    body = _read_object(path)
    for name in ("add_prefix_space", "add_bos_token", "add_eos_token"):
        if body.get(name):
            raise _unlike_gpt2(path, name, body[name], False)
    listed = body.get("added_tokens_decoder") or {}
    try:
        more = {token["content"]: int(i) for i, token in listed.items()}
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        why = f"added_tokens_decoder is damaged ({error!r:.200})"
        raise TokenizerError(f"{path}: {why}.") from error
    if not _is_table_of_ids(more):
        raise TokenizerError(f"{path}: added_tokens_decoder is damaged: a content is no text.")
    _check_added(path, listed.values())
    return added | more


def _read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file, with or without a byte order mark."""
    try:
        body = strict_json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise TokenizerError(f"{path}: cannot be read ({error}).") from error
    if not isinstance(body, dict):
        raise TokenizerError(f"{path}: expected a JSON object.")
    return body


def _is_table_of_ids(ids: object) -> bool:
    return isinstance(ids, dict) and all(
        isinstance(name, str) and type(i) is int for name, i in ids.items()
    )


def _object(path: Path, body: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = body.get(name)
    if not isinstance(found, dict):
        raise TokenizerError(f"{path}: {name} is missing, or no object; GPT-2's has one.")
    return found


def _unlike_gpt2(path: Path, name: str, found: object, wanted: object) -> TokenizerError:
    return TokenizerError(
        f"{path}: {name} is {found!r:.60}, but GPT-2's is {wanted!r}. The ids would be others than "
        "those that the model was trained on; only tokenizers like GPT-2's can be opened."
    )
