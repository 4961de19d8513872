"""Runs a task in a process of its own, forked from one that has imported everything already."""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import forkserver, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from tests.reliability.faults import Fault, Watch
from tinygrad_llm.errors import TinygradLLMError

_CONTEXT = get_context("forkserver")
_ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "TINYGRAD_LLM_NUM_THREADS": "1",
    "TINYGRAD_LLM_PRECISION": "",
    "MPLBACKEND": "agg",
    "PYTHONWARNINGS": "ignore",
    "PYTHONPATH": str(Path(__file__).parents[2]),
}
_PRELOADED = [
    "__main__",
    "matplotlib.pyplot",
    *(f"tinygrad_llm.commands.{name}" for name in ("train", "tokenize", "finetune.spam")),
    "tests.reliability.saved",
    "tests.reliability.commands",
]
_SOON = 0.5  # seconds
_BYTES = 4 << 30  # of addresses: who asks for more has believed a damaged number


@dataclass(frozen=True)
class Outcome:
    """How a task ended: by exactly one of the five first.

    Attributes:
        value: what it returned.
        refusal: the message of an error of this package.
        raw: the traceback of any other exception.
        killed: by a signal.
        hung: not done in time, and killed.
        events: the file events, as far as they are known.
        said: standard output and error.
    """

    value: Any = None
    refusal: str | None = None
    raw: str | None = None
    killed: bool = False
    hung: bool = False
    events: list[str] = field(default_factory=list)
    said: str = ""

    @property
    def clean(self) -> bool:
        """Neither a traceback nor a hang nor a death."""
        return not (self.raw or self.killed or self.hung)


def run(
    task: Callable[..., Any],
    *arguments: Any,
    folder: Path,
    fault: Fault | None = None,
    reads: bool = False,
    seconds: float = 120,
    then: Callable[[], object] | None = None,
) -> Outcome:
    """Run ``task(*arguments)`` with a fault at an event below ``folder``, and say how it ended.

    Args:
        task, arguments: what is run.
        folder, fault, reads: see `Watch`.
        seconds: after which it is said to hang.
        then: called if it has not ended soon: it may wait for another process.
    """
    with running(task, *arguments, folder=folder, fault=fault, reads=reads) as (process, result):
        if then is not None and not result.poll(_SOON):
            then()
        if not result.poll(seconds):
            process.kill()
            process.join()
            return Outcome(hung=True)
        try:
            outcome = result.recv()
        except EOFError:
            outcome = Outcome(killed=True)
        process.join(seconds)
        return outcome


@contextmanager
def running(
    task: Callable[..., Any],
    *arguments: Any,
    folder: Path,
    fault: Fault | None = None,
    reads: bool = False,
) -> Iterator[tuple[Any, Connection]]:
    """The process of ``task(*arguments)``, and the connection by which its outcome comes."""
    start_server()
    result, theirs = _CONTEXT.Pipe(duplex=False)
    watch = Watch(folder, fault, reads)
    process = _CONTEXT.Process(target=_child, args=(theirs, watch, task, arguments))
    process.start()
    theirs.close()
    try:
        yield process, result
    finally:
        if process.is_alive():
            process.join(0.5)
        if process.is_alive():
            process.kill()
        process.join()
        result.close()


def start_server() -> None:
    """Start the process that the others are forked from, if it does not run yet."""
    _CONTEXT.set_forkserver_preload(_PRELOADED)
    with mock.patch.dict(os.environ, _ENVIRONMENT):
        forkserver.ensure_running()


def _child(result: Connection, watch: Watch, task: Callable[..., Any], arguments: Any) -> None:
    said = Path(watch.folder).with_name(f".said.{os.getpid()}")
    descriptor = os.open(said, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    warnings.resetwarnings()
    _limit_memory()
    watch.start()
    ended: dict[str, Any] = {}
    try:
        ended["value"] = task(*arguments)
    except TinygradLLMError as error:
        ended["refusal"] = f"{type(error).__name__}: {error}"
    except (Exception, SystemExit):
        ended["raw"] = traceback.format_exc()
    watch.fault = None
    sys.stdout.flush()
    sys.stderr.flush()
    text = said.read_text(encoding="utf-8", errors="replace")
    said.unlink()
    if "Traceback (most recent call last)" in text:
        ended["raw"] = ended.get("raw") or text
    result.send(Outcome(events=watch.events, said=text, **ended))
    result.close()


def _limit_memory() -> None:
    import resource

    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, most))
