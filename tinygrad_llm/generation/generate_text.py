"""Generation from text to text: strings that stop it, and pieces that never cut a character."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, overload

from tinygrad_llm.errors import GenerationError
from tinygrad_llm.generation.generate import Step, stream
from tinygrad_llm.generation.sampling import Sampling
from tinygrad_llm.nn import Module
from tinygrad_llm.tokenizers import StreamDecoder, Tokenizer


def stream_text(
    model: Module,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    stop_strings: Sequence[str] = (),
    **options: Any,
) -> Iterator[str]:
    """Continue a prompt, and hand out the text as it comes.

    A piece never ends within a character, even where a token does; and text that may turn out to
    be the beginning of a stop string is held back until that is decided. The end-of-text token
    ends the text and is not part of it.

    Args:
        model, tokenizer: that belong together.
        prompt: a text, or ids.
        max_new_tokens: at most.
        sampling: how tokens are chosen.
        stop_strings: the text ends before the first of these that is complete.
        options: ``seed``, ``stop_ids``, ``use_cache``, ``slide`` of `generate`.

    Yields:
        pieces of the continuation; together they are all of it.

    Raises:
        GenerationError: the prompt has no token, or a stop string is empty.
    """
    pieces = stream_steps(model, tokenizer, prompt, max_new_tokens, sampling, **options)
    return until_stop((piece for _, piece in pieces), check_stop_strings(stop_strings))


def stream_steps(
    model: Module,
    tokenizer: Tokenizer,
    prompt: str | Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    **options: Any,
) -> Iterator[tuple[Step | None, str]]:
    """Like `stream_text`, with the `Step` behind each piece; None for a rest at the end."""
    ids = prompt_ids(tokenizer, prompt)
    stop_ids = _take_stop_ids(tokenizer, options)
    options = {"vocab_size": tokenizer.vocab_size, **options}
    steps = stream(model, ids, max_new_tokens, sampling, stop_ids=stop_ids, **options)
    return _decoded(steps, _decoder_after(tokenizer, ids), stop_ids)


def _decoded(
    steps: Iterator[Step], decoder: StreamDecoder, stop_ids: list[int]
) -> Iterator[tuple[Step | None, str]]:
    for step in steps:
        token = int(step.tokens[0])
        yield step, "" if token in stop_ids else decoder.push(token)
    yield None, decoder.finish()


@overload
def generate_text(
    model: Module,
    tokenizer: Tokenizer,
    prompts: str,
    max_new_tokens: int,
    sampling: Sampling | None = ...,
    **options: Any,
) -> str: ...


@overload
def generate_text(
    model: Module,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    max_new_tokens: int,
    sampling: Sampling | None = ...,
    **options: Any,
) -> list[str]: ...


def generate_text(
    model: Module,
    tokenizer: Tokenizer,
    prompts: str | Sequence[str],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    *,
    stop_strings: Sequence[str] = (),
    **options: Any,
) -> str | list[str]:
    """The continuations of several prompts at once; arguments as for `stream_text`.

    Returns:
        a list in the order of the prompts; of one prompt, its continuation.
    """
    if isinstance(prompts, str):
        options = {**options, "stop_strings": stop_strings}
        return "".join(stream_text(model, tokenizer, prompts, max_new_tokens, sampling, **options))
    stops = check_stop_strings(stop_strings)
    ids = [prompt_ids(tokenizer, prompt) for prompt in prompts]
    stop_ids = _take_stop_ids(tokenizer, options)
    decoders = [_decoder_after(tokenizer, prompt) for prompt in ids]
    texts = [""] * len(ids)
    ended = [False] * len(ids)
    options = {"vocab_size": tokenizer.vocab_size, **options}
    for step in stream(model, ids, max_new_tokens, sampling, stop_ids=stop_ids, **options):
        for row, token in zip(step.rows.tolist(), step.tokens.tolist(), strict=True):
            if token not in stop_ids:
                texts[row] += decoders[row].push(token)
            ended[row] = ended[row] or any(stop in texts[row] for stop in stops)
        if all(ended):
            break
    rests = [text + decoder.finish() for text, decoder in zip(texts, decoders, strict=True)]
    return ["".join(until_stop(iter([text]), stops)) for text in rests]


def _take_stop_ids(tokenizer: Tokenizer, options: dict[str, Any]) -> list[int]:
    """The stop ids out of the options, and the tokenizer's end-of-text id."""
    stop_ids = {int(i) for i in options.pop("stop_ids", ())}
    if tokenizer.end_of_text_id is not None:
        stop_ids.add(tokenizer.end_of_text_id)
    return sorted(stop_ids)


def _decoder_after(tokenizer: Tokenizer, ids: Sequence[int]) -> StreamDecoder:
    """A decoder that has read the prompt: the next word may need a space before it."""
    decoder = StreamDecoder(tokenizer)
    for token in ids:
        decoder.push(token)
    return decoder


def until_stop(pieces: Iterator[str], stop_strings: Sequence[str]) -> Iterator[str]:
    """Pass text on up to the first stop string, which may be spread over several pieces.

    The first is the one that is complete first, however the text is cut; of several that are
    complete at once, the longest.
    """
    held = ""
    for piece in pieces:
        held += piece
        found = [(held.find(s) + len(s), held.find(s)) for s in stop_strings if s in held]
        if found:
            _, start = min(found)
            if start:
                yield held[:start]
            return
        safe = len(held) - _undecided(held, stop_strings)
        if safe:
            yield held[:safe]
            held = held[safe:]
    if held:
        yield held


def _undecided(text: str, stop_strings: Sequence[str]) -> int:
    """How many characters at the end of the text may be the beginning of a stop string."""
    longest = 0
    for stop in stop_strings:
        for n in range(min(len(stop) - 1, len(text)), longest, -1):
            if text.endswith(stop[:n]):
                longest = n
                break
    return longest


def check_stop_strings(stop_strings: Sequence[str]) -> tuple[str, ...]:
    """The stop strings as a tuple.

    Raises:
        GenerationError: one is empty, or a single string was given in place of a list.
    """
    if isinstance(stop_strings, str) or not all(stop_strings):
        raise GenerationError(
            f"stop_strings must be a list of texts, none of them empty, got {stop_strings!r}."
        )
    return tuple(stop_strings)


def prompt_ids(tokenizer: Tokenizer, prompt: str | Sequence[int]) -> list[int]:
    """The ids of a prompt; an empty text starts with the end-of-text token, where there is one.

    Raises:
        GenerationError: the prompt is empty, and the tokenizer has no such token.
    """
    ids = tokenizer.encode(prompt, allowed_special="all") if isinstance(prompt, str) else prompt
    if not len(ids) and tokenizer.end_of_text_id is not None:
        return [tokenizer.end_of_text_id]
    if not len(ids):
        raise GenerationError("the prompt is empty; give at least one token of text.")
    return list(ids)
