"""Every exception that this package raises on purpose.

One base class, so that ``except tg.errors.TinygradLLMError`` catches all of them. Each also derives
from the built-in class a Python programmer would expect (a wrong shape is a ``ValueError``).

A message answers five questions: which op or file, which argument, what was expected, what came,
and what to do about it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tinygrad_llm.control_characters import one_line, readable

_LONGEST_NAME = 200  # to look for its like takes the square of its length


class TinygradLLMError(Exception):
    """Base class of every error of this package; each argument is a line of the message."""

    def __str__(self) -> str:
        """The message: control characters are visible, and what is endless is cut.

        Both come with names from anybody's files, as do line breaks, which stay in their line.
        """
        return readable("\n".join(map(one_line, self.args)))


class ShapeError(TinygradLLMError, ValueError):
    """Arrays whose shapes do not fit together."""


class DTypeError(TinygradLLMError, TypeError):
    """A data type that an op cannot take, such as an integer tensor that requires a gradient."""


class DeviceError(TinygradLLMError, RuntimeError):
    """A device that is missing, or arrays that live on different devices."""


class OutOfMemoryError(DeviceError, MemoryError):
    """The device has no room for an array."""


class GradientError(TinygradLLMError, ArithmeticError):
    """The derivative as written is not the derivative: a failed check, or a gradient of another
    shape, type or number than the arguments'."""


class GraphError(TinygradLLMError, RuntimeError):
    """A misuse of the graph: walked twice, written into, or without anything to differentiate."""


class NumericsError(TinygradLLMError, ArithmeticError):
    """A NaN or an infinity where none belongs."""


class IndexRangeError(TinygradLLMError, IndexError):
    """A token id, class or index outside its range."""


class LeftOutError(TinygradLLMError, AttributeError):
    """A name known from PyTorch that is not here; the message says what to write instead."""


class ConfigError(TinygradLLMError, ValueError):
    """A setting that makes no sense, alone or together with another."""


class TokenizerError(TinygradLLMError, ValueError):
    """Text or ids that a tokenizer cannot take, or a tokenizer file that is damaged."""


class DataError(TinygradLLMError, ValueError):
    """A data set that is missing, empty, damaged, or too small for what is asked of it."""


class CheckpointError(TinygradLLMError, RuntimeError):
    """A checkpoint that is missing, damaged, or made for another model."""


class GenerationError(TinygradLLMError, ValueError):
    """Sampling settings or prompts that cannot be used."""


class CacheIgnoredError(GenerationError):
    """A model was given a cache of keys and values, and a part of it does not use that."""


class KernelError(TinygradLLMError, RuntimeError):
    """A Triton kernel was demanded and cannot run; the message says why."""


class DistributedError(TinygradLLMError, RuntimeError):
    """Processes of a distributed run that disagree, or one that is gone."""


class OutputError(TinygradLLMError, OSError):
    """The standard output takes nothing more, such as a file on a full disk."""


class MissingDependencyError(TinygradLLMError, ImportError):
    """An optional library is not installed; the message says how to get it."""


def in_words(error: BaseException) -> str | None:
    """What a program says of an error: its message, or what the system said, and of which file.

    Returns:
        None for an error that is a mistake in the code: its traceback says more.
    """
    if isinstance(error, TinygradLLMError):
        return str(error)
    if isinstance(error, FileNotFoundError) and error.filename is None:  # of os.getcwd alone
        return "the current folder was removed. Go to another one, with cd."
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return readable(one_line(f"{where}{error.strerror or error}."))
    if isinstance(error, MemoryError):
        return f"not enough memory. {error}".rstrip()
    return None


def missing_name(
    owner: str, name: str, left_out: Mapping[str, str], there: Iterable[str] = ()
) -> AttributeError:
    """The error for ``owner.name`` where there is no such name, to be raised by the caller.

    Args:
        owner: what was asked, such as ``"tg.nn"``.
        name: the name that is missing.
        left_out: name -> what to write instead.
        there: the names that exist, among which the nearest is suggested.
    """
    if name in left_out:
        return LeftOutError(f"{owner}.{name} is left out. Use {left_out[name]}.")
    hint = did_you_mean(name, there, f"{owner}.")
    return AttributeError(f"{owner} has no attribute {name!r}.{hint}")


def with_suggestion(owner: object, name: str) -> AttributeError:
    """The error for an attribute that ``owner`` lacks, in Python's words and with the nearest name.

    A property that fails with an AttributeError of its own is asked for again here: its error is
    the one to show.
    """
    try:
        object.__getattribute__(owner, name)
    except AttributeError as error:
        if error.name != name or error.obj is not owner or name.startswith("_"):
            return error
        return AttributeError(f"{error}.{did_you_mean(name, dir(owner))}")
    return AttributeError(name)


def did_you_mean(name: str, known: Iterable[str], before: str = "", most: int = 1) -> str:
    """``" Did you mean exp?"``, to be put behind an error's first sentence; "" if none is near.

    Args:
        name: what was asked for.
        known: the names that exist.
        before: stands in front of each name, such as ``"tg."``.
        most: how many names are suggested at most.
    """
    import difflib

    known = [] if len(name) > _LONGEST_NAME else list(known)
    longer = [found for found in known if most > 1 and len(name) > 3 and name in found]
    cutoff = 0.6 if most == 1 else 0.4  # of several the reader chooses himself
    # Case and underscores are what is remembered worst: "layernorm" is layer_norm.
    same = [found for found in known if _bare(found) == _bare(name)]
    near = [*same, *longer, *difflib.get_close_matches(name, known, n=most, cutoff=cutoff)]
    near = list(dict.fromkeys(near))[:most]
    return f" Did you mean {', '.join(before + found for found in near)}?" if near else ""


def _bare(name: str) -> str:
    return name.replace("_", "").lower()
