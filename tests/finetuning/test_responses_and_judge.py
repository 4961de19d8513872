import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import ALPACA, CHAT
from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.judge import Judge, mean_mark
from tinygrad_llm.finetuning.responses import (
    Response,
    read_responses,
    respond,
    score_responses,
    show,
    template_marks,
    write_responses,
)
from tinygrad_llm.generation.generate import generate

EXAMPLES = [
    Instruction("Say hello to the man, and then to the station.", "", "Hello."),
    Instruction("Claim", "cash", "Now."),
    Instruction("What is the plural?", "mouse", "mice."),
]


def test_each_answer_is_what_its_prompt_alone_gives(gpt, tokenizer):
    """Batches of prompts of different lengths, sorted and put back in order."""
    responses = respond(gpt, tokenizer, CHAT, EXAMPLES, max_new_tokens=6)
    for example, response in zip(EXAMPLES, responses, strict=True):
        ids, _ = CHAT.encode(example.turns()[:-1], tokenizer, ask=True)
        alone = generate(gpt, ids, 6, 0.0, stop_ids=(tokenizer.end_of_text_id,))[len(ids) :]
        finished = tokenizer.end_of_text_id in alone
        text = tokenizer.decode(alone).replace("<|endoftext|>", "").strip()
        assert (response.answer, response.finished) == (text, finished)
        assert (response.instruction, response.reference) == (example.instruction, example.output)


def test_responses_are_written_and_read_again(tmp_path):
    responses = [Response("Q", "", "Römer", "römer.", True), Response("Q2", "x", "a", "b", False)]
    write_responses(tmp_path / "r.json", responses, {"model": "test"})
    assert read_responses(tmp_path / "r.json") == responses
    assert "Römer" in (tmp_path / "r.json").read_text(encoding="utf-8")
    s = score_responses(responses, ALPACA)
    assert (s.exact_match, s.well_formed) == (0.5, 0.5)
    assert "...(cut off)" in show(responses)


@pytest.mark.parametrize("name", ["instruction", "input", "reference", "answer", "finished"])
def test_a_value_of_another_type_is_named(tmp_path, name):
    write_responses(tmp_path / "r.json", [Response("Q", "", "a", "b", True)], {})
    body = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    body["responses"][0][name] = 0
    del body["sha256"]  # as another program writes it
    (tmp_path / "r.json").write_text(json.dumps(body), encoding="utf-8-sig")
    with pytest.raises(DataError, match=f"response 0: {name} must be a (str|bool), got 0"):
        read_responses(tmp_path / "r.json")


@pytest.mark.parametrize("content", ["", "[]", '{"responses": [{"x": 1}]}', "[" * 100_000])
def test_a_file_of_something_else_is_refused(tmp_path, content):
    (tmp_path / "r.json").write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match="not a file of responses"):
        read_responses(tmp_path / "r.json")


def test_template_marks_are_what_must_not_be_in_an_answer():
    assert "### Response:" in template_marks(ALPACA)
    assert "<|user|>" in template_marks(CHAT)


class _FakeJudge(BaseHTTPRequestHandler):
    replies: list[str] = []
    asked: list[dict] = []

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.asked.append(body)
        reply = self.replies.pop(0).encode("utf-8", "surrogateescape")
        self.send_response(200)
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    httpd = HTTPServer(("127.0.0.1", 0), _FakeJudge)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/v1/chat/completions"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def says(text):
    return json.dumps({"choices": [{"message": {"content": text}}]})


def test_the_judge_is_asked_and_its_marks_are_read(server):
    _FakeJudge.replies[:] = [says("Score: 85"), says("I cannot tell"), says("150")]
    _FakeJudge.asked.clear()
    responses = [Response("Add", "2 and 3", "5", "five", True)] * 3
    marks = Judge(server, "small").marks(responses)
    assert marks == [85, None, 100]
    assert mean_mark(marks) == 92.5
    question = _FakeJudge.asked[0]["messages"][0]["content"]
    assert _FakeJudge.asked[0]["model"] == "small"
    assert all(part in question for part in ("Add 2 and 3", "`5`", "`five`"))


@pytest.mark.parametrize(
    ("said", "mark"), [("9" * 10_000, 100), ("0" * 10_000 + "7", 7), ("mark: 99", 99), ("", None)]
)
def test_a_mark_of_any_length(server, said, mark):
    _FakeJudge.replies[:] = [says(said)]
    assert Judge(server).marks([Response("Q", "", "a", "b", True)]) == [mark]


@pytest.mark.parametrize(
    "reply",
    [says(None), says(["85"]), says({"a": 1}), "[]", '{"choices": {}}', "[" * 100_000, "\udcff85"],
)
def test_an_answer_of_another_form(server, reply):
    _FakeJudge.replies[:] = [reply]
    with pytest.raises(DataError, match="something other than a chat completion") as caught:
        Judge(server).marks([Response("Q", "", "a", "b", True)])
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"220 ready\r\n",
        b"HTTP/1.1 500 \x1b]0;owned\x07\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n99\r\n{",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nmany\r\n{",
    ],
)
def test_a_judge_that_speaks_no_http(answer):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=_answer, args=(listening, answer))
        thread.start()
        judge = Judge(f"http://127.0.0.1:{listening.getsockname()[1]}/", timeout=10)
        with pytest.raises(DataError, match="does not answer") as caught:
            judge.marks([Response("Q", "", "a", "b", True)])
        thread.join()
    assert str(caught.value).isprintable()


def _answer(listening, content):
    with listening.accept()[0] as connection:
        connection.recv(1 << 16)
        connection.sendall(content)


@pytest.mark.parametrize("url", ["http://", "http://[::1", "http://a b/", "http://127.0.0.1:x/"])
def test_an_address_that_is_none(url):
    with pytest.raises(DataError, match="does not answer"):
        Judge(url).marks([Response("Q", "", "a", "b", True)])


def test_a_judge_that_does_not_answer_or_speaks_otherwise_is_named(server):
    _FakeJudge.replies[:] = ["not json"]
    response = [Response("Q", "", "a", "b", True)]
    with pytest.raises(DataError, match="something other than a chat completion"):
        Judge(server).marks(response)
    with pytest.raises(DataError, match="does not answer"):
        Judge("http://127.0.0.1:9/none", timeout=2).marks(response)
    with pytest.raises(DataError, match="expected an http"):
        Judge("file:///etc/hostname").marks(response)
    assert mean_mark([None]) == 0.0
