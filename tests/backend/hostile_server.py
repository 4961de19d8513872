"""A server on this machine that does to a download whatever a server can do.

Each method of `Answers` is one behaviour, chosen by the path of the address. It writes the bytes of
the answer itself, so nothing is too wrong to be sent.
"""

from __future__ import annotations

import contextlib
import socketserver
import threading
import time
from collections.abc import Iterator

CONTENT = bytes(range(256)) * 50
ESCAPE = "\x1b]0;owned\x07"
_FOREVER = 600  # writes; each test ends long before


class Answers(socketserver.StreamRequestHandler):
    """One request, one answer, and the connection is closed."""

    asked_from = 0
    answer = b"HTTP/1.1 200 OK\r\n"
    whole = b"Content-Length: %d\r\n\r\n" % len(CONTENT)
    chunked = b"Transfer-Encoding: chunked\r\n\r\n"

    def handle(self) -> None:
        path = self.rfile.readline().split()[1].decode()
        while (line := self.rfile.readline().strip()) != b"":
            name, _, value = line.decode("latin-1").partition(": ")
            if name.lower() == "range":
                self.asked_from = int(value.removeprefix("bytes=").removesuffix("-"))
        self.server.asked.append((path, self.asked_from))  # type: ignore[attr-defined]
        with contextlib.suppress(OSError):  # the other side had enough
            getattr(self, path.strip("/").partition("?")[0].replace("-", "_"))()

    def send(self, *parts: bytes) -> None:
        self.wfile.write(b"".join(parts))

    def go_on(self, part: bytes, seconds: float = 0.0) -> None:
        """The same bytes again and again."""
        for _ in range(_FOREVER if seconds else _FOREVER * 1000):
            self.send(part)
            time.sleep(seconds)

    # ---- as it should be -------------------------------------------------------------------------

    def good(self) -> None:
        rest = CONTENT[self.asked_from :]
        if not rest:
            self.send(b"HTTP/1.1 416 Range Not Satisfiable\r\n\r\n")
            return
        status = b"206 Partial Content" if self.asked_from else b"200 OK"
        self.send(b"HTTP/1.1 ", status, b"\r\nContent-Length: %d\r\n\r\n" % len(rest), rest)

    def archive(self) -> None:
        packed = self.server.archive  # type: ignore[attr-defined]
        self.send(self.answer, b"Content-Length: %d\r\n\r\n" % len(packed), packed)

    def empty(self) -> None:
        self.send(self.answer, b"Content-Length: 0\r\n\r\n")

    # ---- odd, and yet the file -------------------------------------------------------------------

    def no_length(self) -> None:
        self.send(self.answer, b"\r\n", CONTENT)

    def odd_length(self) -> None:
        self.send(self.answer, b"Content-Length: many\r\n\r\n", CONTENT)

    def chunks(self) -> None:
        pieces = [CONTENT[i : i + 999] for i in range(0, len(CONTENT), 999)]
        self.send(self.answer, self.chunked, *(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces))
        self.send(b"0\r\n\r\n")

    def more_than_said(self) -> None:
        self.send(self.answer, self.whole, CONTENT, CONTENT)

    def redirected(self) -> None:
        self.send(b"HTTP/1.1 302 Found\r\nLocation: /good\r\n\r\n")

    def redirected_with_a_long_page(self) -> None:
        self.send(b"HTTP/1.1 302 Found\r\nLocation: /good\r\n\r\n")
        self.go_on(bytes(1 << 16))

    # ---- cut off ---------------------------------------------------------------------------------

    def cut(self) -> None:
        self.send(self.answer, self.whole, CONTENT[:1000])

    def cut_chunk(self) -> None:
        self.send(self.answer, self.chunked, b"%x\r\n" % len(CONTENT), CONTENT[:1000])

    def nothing(self) -> None:
        pass

    # ---- too slow --------------------------------------------------------------------------------

    def silent(self) -> None:
        time.sleep(2)

    def slow_head(self) -> None:
        self.send(self.answer)
        self.go_on(b"X", 0.02)

    def slow_body(self) -> None:
        self.send(self.answer, self.whole)
        self.go_on(b"X", 0.02)

    def slow_chunk(self) -> None:
        self.send(self.answer, self.chunked)
        self.go_on(b"0", 0.02)

    def go_on_waiting(self) -> None:
        self.go_on(b"HTTP/1.1 100 Continue\r\n\r\n", 0.02)

    # ---- too much --------------------------------------------------------------------------------

    def huge(self) -> None:
        self.send(self.answer, b"Content-Length: 3000000000\r\n\r\n")
        self.go_on(bytes(1 << 16))

    def endless(self) -> None:
        self.send(self.answer, b"\r\n")
        self.go_on(bytes(1 << 16))

    def endless_chunks(self) -> None:
        self.send(self.answer, self.chunked)
        self.go_on(b"10000\r\n" + bytes(1 << 16) + b"\r\n")

    def chunk_of_minus_one(self) -> None:
        self.send(self.answer, self.chunked, b"-1\r\n")
        self.go_on(bytes(1 << 16))

    def long_line(self) -> None:
        self.send(self.answer, b"X: ")
        self.go_on(bytes(1 << 16))

    def many_lines(self) -> None:
        self.send(self.answer)
        self.go_on(b"X: y\r\n" * 1000)

    # ---- not HTTP, not the file ------------------------------------------------------------------

    def not_http(self) -> None:
        self.send(b"220 mail.example ready\r\n")

    def bad_chunk(self) -> None:
        self.send(self.answer, self.chunked, b"many\r\n", CONTENT)

    def missing(self) -> None:
        self.send(b"HTTP/1.1 404 ", ESCAPE.encode(), b"\r\n\r\n")

    def other(self) -> None:
        self.send(self.answer, self.whole, bytes(len(CONTENT)))

    def other_part(self) -> None:
        self.send(b"HTTP/1.1 206 Partial Content\r\n", self.whole, CONTENT)

    def in_a_circle(self) -> None:
        self.send(b"HTTP/1.1 302 Found\r\nLocation: /in-a-circle\r\n\r\n")

    def to_a_file(self) -> None:
        self.send(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/hostname\r\n\r\n")

    def to_ftp(self) -> None:
        self.send(b"HTTP/1.1 302 Found\r\nLocation: ftp://127.0.0.1:9/x\r\n\r\n")

    def to_nonsense(self) -> None:
        self.send(b"HTTP/1.1 302 Found\r\nLocation: http://[::1/\r\n\r\n")

    def raw(self) -> None:
        self.send(self.server.raw)  # type: ignore[attr-defined]


class Server(socketserver.ThreadingTCPServer):
    """`asked` lists path and first byte of each request."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.asked: list[tuple[str, int]] = []
        self.archive = self.raw = b""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


@contextlib.contextmanager
def serving() -> Iterator[Server]:
    """A running server."""
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
