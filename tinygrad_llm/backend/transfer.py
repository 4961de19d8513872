"""Bytes from a server or an archive, which may be hostile: bounded in time, and never raw errors.

Nothing here writes. `backend.download` does, and bounds the size.
"""

from __future__ import annotations

import http.client
import io
import struct
import threading
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import IO, TypeVar

from tinygrad_llm.terminal import visible

PATIENCE_SECONDS = 30.0  # for an answer, and for each piece
PIECE_BYTES = 1 << 16  # so 2 KB a second are the least

_TOO_SLOW = "too slow: not even 64 KB"

T = TypeVar("T")


class TransferError(Exception):
    """A server that cannot be reached, or that sends something else; the message says what."""


class Sent:
    """What a server sends of a file; a context manager that ends the connection.

    Args:
        response: the answer; None where there is nothing left to send.
        start: number of its first byte: 0, or where a transfer that was cut off goes on.

    Attributes:
        length: bytes from there to the end; None where the server does not say.
    """

    def __init__(self, response: http.client.HTTPResponse | None, start: int) -> None:
        self._response, self.start = response, start
        self.length = 0 if response is None else response.length
        self._reading = threading.Lock()

    def __enter__(self) -> Sent:
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Who is late with reading closes it itself: here that would be waited for."""
        if self._response is not None and self._reading.acquire(blocking=False):
            self._response.close()

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, in pieces of at most `PIECE_BYTES`; raises TransferError."""
        response = self._response
        while response is not None:
            piece = in_time(PATIENCE_SECONDS, _TOO_SLOW, lambda: self._read(response))
            if not piece:
                return
            yield piece

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The next piece. `read` would believe a chunk that says it is -1 long, and read it all."""
        gathered, until = b"", time.monotonic() + PATIENCE_SECONDS
        with self._reading:
            try:
                while more := response.read1(PIECE_BYTES - len(gathered)):
                    gathered += more
                    if len(gathered) >= PIECE_BYTES:  # a chunk of -1 gives more than is asked
                        break
                    if time.monotonic() > until:
                        raise TimeoutError(_TOO_SLOW)
            except BaseException:
                response.close()
                raise
        return gathered


def ask(url: str, start: int) -> Sent:
    """Ask a server for a file, or for the rest of it.

    Args:
        url: an address with http or https.
        start: bytes that are there already. A server may not be able to leave them out, so look at
            what comes back.

    Raises:
        TransferError: no connection, no answer in time, or the server refuses.
    """
    response = in_time(PATIENCE_SECONDS, "no answer", lambda: _open(url, start))
    all_of_it = response is not None and response.status != http.client.PARTIAL_CONTENT
    return Sent(response, 0 if all_of_it else start)


def _open(url: str, start: int) -> http.client.HTTPResponse | None:
    """The answer; None where nothing is left to send: the part is whole, or too long."""
    request = urllib.request.Request(url, headers={"User-Agent": "tinygrad_llm"})
    if start:
        request.add_header("Range", f"bytes={start}-")
    try:
        return open_request(request, PATIENCE_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return None
        raise


def open_request(request: urllib.request.Request, timeout: float) -> http.client.HTTPResponse:
    """The answer to a request, to be closed; raises what `urllib.request.urlopen` does.

    Args:
        request: over http or https, and nothing else.
        timeout: seconds for each wait; `in_time` bounds their sum.
    """
    try:
        return _opener().open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        error.close()
        raise


def _opener() -> urllib.request.OpenerDirector:
    """Knows http and https alone: a redirection must not lead to a file or to FTP."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPErrorProcessor,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.UnknownHandler,
        _Redirections,
    ):
        opener.add_handler(handler())
    return opener


class _Redirections(urllib.request.HTTPRedirectHandler):
    """Follows a redirection without reading its page, which could be of any length."""

    def http_error_302(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
    ) -> IO[bytes] | None:
        fp.close()
        return super().http_error_302(req, io.BytesIO(), code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def in_time(seconds: float, complaint: str, call: Callable[[], T]) -> T:
    """What ``call`` returns, which asks the network for something.

    The time limit of a socket begins anew with each byte. So a thread waits for the network, and
    is left behind when it takes too long; it does not keep the process from ending.

    Args:
        seconds: that it may take.
        complaint: what to say when it takes longer, such as ``"no answer"``.
        call: is run in the thread.

    Raises:
        TransferError: the call failed, or took too long.
    """
    answer: futures.Future[T] = futures.Future()

    def work() -> None:
        try:
            answer.set_result(call())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(seconds)
    except (futures.TimeoutError, TimeoutError):  # before Python 3.11 they are two
        answer.add_done_callback(_close)
        raise TransferError(f"{complaint} in {seconds:g} s") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise TransferError(_words(error)) from error


def _close(late: futures.Future[T]) -> None:
    """End a connection that nobody waits for any more."""
    if late.exception() is None and isinstance(response := late.result(), io.IOBase):
        response.close()


def unpacked(archive: Path, member: str) -> Iterator[bytes]:
    """The content of one file in a zip archive, in pieces.

    Raises:
        TransferError: it is not there, encrypted, damaged, or packed in an unusual way.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            info = opened.getinfo(member)
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise zipfile.BadZipFile(f"packed by method {info.compress_type}")
            with opened.open(info) as content:
                while piece := content.read(PIECE_BYTES):
                    yield piece
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        RuntimeError,  # encrypted, or of a newer version of the format
        LookupError,
        ValueError,
        OverflowError,
        OSError,
    ) as error:
        raise TransferError(f"no {member} in the archive: {_words(error)}") from error


def _words(error: Exception) -> str:
    """What an error says, without what a server may have put into it to move the cursor."""
    return visible(" ".join(str(error)[:200].split())) or type(error).__name__
