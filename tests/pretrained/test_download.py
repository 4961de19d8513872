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
    """States a checksum and redirects to a storage address, which takes ranges."""

    def __init__(self, log, content, cut_after, *args):
        self.log, self.content, self.cut_after = log, content, cut_after
        super().__init__(*args)

    def do_GET(self):
        self.log.append((self.command, self.path, self.headers.get("Range")))
        if self.path == "/openai-community/gpt2/resolve/main/model.safetensors":
            self.send_response(302)
            self.send_header("Location", "/storage")
            self.send_header("X-Linked-ETag", f'"{hashlib.sha256(self.content).hexdigest()}"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range")
        start = int(asked[6:-1]) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(self.content) - start))
        self.end_headers()
        end = self.cut_after if self.cut_after and not asked else len(self.content)
        self.wfile.write(self.content[start:end])

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    """Starts a server; returns its log."""
    servers = []

    def start(content=CONTENT, cut_after=None):
        log = []
        server = ThreadingHTTPServer(
            ("127.0.0.1", 0), functools.partial(Hub, log, content, cut_after)
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
    monkeypatch.setitem(download.WEIGHTS, "gpt2", (CHECKSUM, len(CONTENT)))
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
    assert asked == 2
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


def test_a_server_that_vouches_for_its_own_file_is_not_believed(hub, tmp_path):
    """The checksums stand in the package: HF_ENDPOINT may lead anywhere."""
    weights = random_weights()
    weights["wte.weight"] = weights["wte.weight"] + 1
    hub(content=safetensors_bytes(weights))
    with pytest.raises(errors.CheckpointError, match="not the expected file"):
        _load(tmp_path)
    assert list((tmp_path / "gpt2").iterdir()) == []


def test_damage_in_the_cache_is_noticed_unless_nobody_wants_to_look(hub, tmp_path, monkeypatch):
    hub()
    _load(tmp_path)
    file = tmp_path / "gpt2" / "model.safetensors"
    file.write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(errors.CheckpointError, match="damaged: delete it"):
        _load(tmp_path)
    monkeypatch.setenv("TINYGRAD_LLM_VERIFY", "off")
    _load(tmp_path)


def test_the_weights_of_every_size_have_a_checksum():
    assert download.WEIGHTS.keys() == download.SIZES.keys()
    for name, (checksum, max_bytes) in download.WEIGHTS.items():
        config = download.gpt2_config(name)
        masks = config.n_layer * config.context_length**2  # the files hold the causal masks, too
        assert len(bytes.fromhex(checksum)) == 32
        assert 1 < max_bytes / (4 * (nn.num_parameters_of(config) + masks)) < 1.01


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
    (folder / "model.safetensors").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(errors.CheckpointError, match="damaged"):
        nn.GPT.from_pretrained("gpt2")


def test_unknown_name():
    with pytest.raises(errors.CheckpointError, match="'gpt3'.*gpt2-xl"):
        nn.GPT.from_pretrained("gpt3")


@pytest.mark.parametrize(
    ("name", "millions"),
    [("gpt2", 124), ("gpt2-medium", 355), ("gpt2-large", 774), ("gpt2-xl", 1558)],
)
def test_sizes_are_the_published_ones(name, millions):
    assert round(nn.num_parameters_of(download.gpt2_config(name)) / 1e6) == millions
