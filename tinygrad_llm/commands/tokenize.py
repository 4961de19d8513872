"""``tinygrad-llm tokenize FILES --out DIR``: text files to token shards.

Train on them with: tinygrad-llm train --data DIR
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tinygrad_llm import tokenizers
from tinygrad_llm.commands.program import command_parser, parse
from tinygrad_llm.data.documents import is_text, read_text, text_files
from tinygrad_llm.data.tokenizing import tokenize_files
from tinygrad_llm.errors import ConfigError, DataError
from tinygrad_llm.hints import command
from tinygrad_llm.tokenizers import BPETokenizer, CharTokenizer, Tokenizer
from tinygrad_llm.tokenizers.special_tokens import END_OF_TEXT

DESCRIPTION = """Turn text files into token shards.

Train on them with:

    tinygrad-llm train --data DIR
"""
LEARN_FROM_CHARACTERS = 20_000_000
VOCAB_SIZE = 8192


def main(argv: Sequence[str] | None = None) -> int:
    """Tokenize."""
    parser = command_parser("tokenize", DESCRIPTION)
    parser.add_argument("files", nargs="+", metavar="FILE", help="UTF-8 text files and folders")
    parser.add_argument("--out", required=True, metavar="DIR", help="folder for the shards")
    parser.add_argument(
        "--tokenizer",
        default="bpe",
        metavar="NAME",
        help="bpe or char (learned from the files), gpt2, or a saved tokenizer's folder "
        "(default: bpe)",
    )
    parser.add_argument(
        "--vocab-size",
        type=int,
        metavar="N",
        help=f"tokens of a bpe tokenizer that is learned (default: {VOCAB_SIZE})",
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes (default: one per usable core)"
    )
    parser.add_argument(
        "--shard-mb",
        type=int,
        default=16,
        metavar="N",
        help="about how many MB of text go into a shard (default: 16)",
    )
    a = parse(parser, argv)
    if a.vocab_size is not None and a.tokenizer != "bpe":
        raise ConfigError(f"--vocab-size: the tokenizer {a.tokenizer} has a size of its own.")
    tokenizer = _tokenizer(a.tokenizer, a.files, Path(a.out), a.vocab_size or VOCAB_SIZE)
    done = tokenize_files(a.files, a.out, tokenizer, a.workers, a.shard_mb << 20)
    print(
        f"{_counted(done.documents, 'document')}, {done.tokens:,} tokens in "
        f"{_counted(done.shards, 'shard')} (there already: {done.reused}), written to {a.out}.\n"
        f"Next:\n  {command('train', '--data', a.out)}"
    )
    return 0


def _tokenizer(name: str, files: Sequence[str], out: Path, vocab_size: int) -> Tokenizer:
    """The tokenizer that is asked for; one learned by an earlier, stopped call is used again.

    Raises:
        ConfigError: no such tokenizer, or the earlier call asked for another one.
        DataError: there is no text to learn one from.
    """
    if name == "gpt2":
        return tokenizers.gpt2()
    if name not in ("bpe", "char"):
        if not Path(name).exists():
            raise ConfigError(f"--tokenizer: expected bpe, char, gpt2 or a folder, got {name!r}.")
        return tokenizers.load(name)
    kept = out / ("learned-char" if name == "char" else f"learned-bpe-{vocab_size}")
    if kept.is_dir():
        return tokenizers.load(kept)
    others = sorted(folder.name for folder in out.glob("learned-*"))
    if others:
        raise ConfigError(
            f"{out}: was begun with another tokenizer, {others[0]}. Ask for the same one, delete "
            "the folder, or choose another with --out."
        )
    tokenizer: Tokenizer
    if name == "char":
        tokenizer = CharTokenizer.train(_texts(files, None), (END_OF_TEXT,))
    else:
        texts = _texts(files, LEARN_FROM_CHARACTERS)
        tokenizer = BPETokenizer.train(texts, vocab_size, (END_OF_TEXT,))
    tokenizer.save(kept)
    return tokenizer


def _texts(files: Sequence[str], most: int | None) -> Iterator[str]:
    """The texts of all files, up to about ``most`` characters."""
    seen = 0
    for name in files:
        given = Path(name)
        if not name or not given.exists():  # Path("") is the current folder
            raise DataError(f"{name or repr(name)}: no such file or folder.")
        for path in text_files(given) if given.is_dir() else [given]:
            if given.is_dir() and not is_text(path):
                continue
            text = read_text(path)
            yield text if most is None else text[: most - seen]
            seen += len(text)
            if most is not None and seen >= most:
                return
    if not seen:
        raise DataError(f"{', '.join(files)}: there is no text to tokenize.")


def _counted(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
