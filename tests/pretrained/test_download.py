"""Downloads by name, from a server on this machine that behaves like the hub."""

import functools
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from gpt2_oracle import HPARAMS, random_weights, safetensors_bytes

from tinygrad_llm import errors, nn
from tinygrad_llm.pretrained import download

CONTENT = safetensors_bytes(random_weights())
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Hub(BaseHTTPRequestHandler):
    """States the checksum and redirects to a storage address, which takes ranges."""

    def __init__(self, log, checksum, cut_after, *args):
        self.log, self.checksum, self.cut_after = log, checksum, cut_after
        super().__init__(*args)

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.log.append((self.command, self.path, self.headers.get("Range")))
        if self.path == "/openai-community/gpt2/resolve/main/model.safetensors":
            self.send_response(302)
            self.send_header("Location", "/storage")
            if self.checksum:
                self.send_header("X-Linked-ETag", f'"{self.checksum}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        start = int(asked[6:-1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(CONTENT) - start))
        self.end_headers()
        end = self.cut_after if self.cut_after and not asked else len(CONTENT)
        self.wfile.write(CONTENT[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    """Starts a server; returns its log."""
    servers = []

    def start(checksum=CHECKSUM, cut_after=None):
        log = []
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Hub, log, checksum, cut_after)
        )
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        servers.append((server, thread))
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        return log

    config = nn.GPTConfig(
        HPARAMS["n_vocab"],
        HPARAMS["n_ctx"],
        HPARAMS["n_layer"],
        HPARAMS["n_head"],
        HPARAMS["n_embd"],
    )
    monkeypatch.setattr(download, "gpt2_config", lambda name: config)
    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()


def _load(cache):
    return nn.GPT.from_pretrained("gpt2", cache_dir=cache)


def test_downloaded_once_checked_and_kept(hub, tmp_path):
    log = hub()
    model = _load(tmp_path)
    got = model.state_dict()["token_embedding.weight"].numpy()
    assert np.array_equal(got, random_weights()["wte.weight"])
    asked = len(log)
    assert asked == 3
    _load(tmp_path)
    assert len(log) == asked
    assert sorted(p.name for p in (tmp_path / "gpt2").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_goes_on_where_it_stopped(hub, tmp_path):
    log = hub(cut_after=1000)
    with pytest.raises(errors.CheckpointError, match="connection|bytes"):
        _load(tmp_path)
    assert not (tmp_path / "gpt2" / "model.safetensors").exists()
    assert (tmp_path / "gpt2" / "model.safetensors.part").stat().st_size == 1000
    _load(tmp_path)
    assert ("GET", "/storage", "bytes=1000-") in log


def test_wrong_content_is_not_kept(hub, tmp_path):
    hub(checksum="0" * 64)
    with pytest.raises(errors.CheckpointError, match="not the expected file"):
        _load(tmp_path)
    assert list((tmp_path / "gpt2").iterdir()) == []


def test_server_that_states_no_checksum(hub, tmp_path):
    hub(checksum="")
    with pytest.raises(errors.CheckpointError, match="states no SHA-256"):
        _load(tmp_path)


def test_without_a_network_the_error_names_files_and_places(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(errors.CheckpointError) as caught:
        nn.GPT.from_pretrained("gpt2-medium", cache_dir=tmp_path)
    message = str(caught.value)
    assert "model.safetensors" in message
    assert str(tmp_path / "gpt2-medium") in message
    assert "model.ckpt" in message


def test_the_hubs_own_client_is_used_where_there_is_one(hub, tmp_path, monkeypatch):
    folder = tmp_path / "snapshot"
    from gpt2_oracle import write_folder

    write_folder(folder, random_weights())

    class Client:
        @staticmethod
        def snapshot_download(repo, allow_patterns):
            assert repo == "openai-community/gpt2"
            assert allow_patterns == ["config.json", "model.safetensors"]
            return str(folder)

    monkeypatch.setattr(download, "_hub", lambda: Client)
    monkeypatch.setenv("TINYGRAD_LLM_CACHE", str(tmp_path / "empty"))
    assert nn.GPT.from_pretrained("gpt2").config.n_embd == 8


def test_unknown_name():
    with pytest.raises(errors.CheckpointError, match="'gpt3'.*gpt2-xl"):
        nn.GPT.from_pretrained("gpt3")


@pytest.mark.parametrize(
    ("name", "millions"),
    [("gpt2", 124), ("gpt2-medium", 355), ("gpt2-large", 774), ("gpt2-xl", 1558)],
)
def test_sizes_are_the_published_ones(name, millions):
    assert round(nn.num_parameters_of(download.gpt2_config(name)) / 1e6) == millions
