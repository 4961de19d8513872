"""Real ranks with nothing in the cache: one of them downloads, the others wait."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, and notes what is asked for."""

    def log_message(self, format: str, *args: object) -> None:
        self.server.asked.append(args[0])  # type: ignore[attr-defined]


@pytest.fixture
def server(page: Path) -> Iterator[http.server.ThreadingHTTPServer]:
    answer = functools.partial(Handler, directory=str(page.parent))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), answer) as running:
        running.asked = []  # type: ignore[attr-defined]
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_one_rank_downloads_for_all(launch, page, server, tmp_path):
    few = {"steps": 1, "warmup": 0, "eval_every": 0, "checkpoint_every": 0, "batch_size": 6}
    flags = launch.flags("the-verdict", tmp_path / "run", **few)
    code, output = launch(
        3,
        HERE / "cold_cache_ranks.py",
        f"http://127.0.0.1:{server.server_port}/{page.name}",
        hashlib.sha256(page.read_bytes()).hexdigest(),
        *flags[1:],
        TINYGRAD_LLM_CACHE=str(tmp_path / "cache"),
    )
    assert code == 0, output
    assert "Done: 1 of 1 steps" in output
    assert server.asked == [f"GET /{page.name} HTTP/1.1"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["the-verdict.txt"]
