"""An optional judge: a larger model on this machine gives each answer a mark from 0 to 100.

Any server that speaks the chat-completions protocol will do, such as ollama or llama.cpp:

    ollama serve                      http://localhost:11434/v1/chat/completions
    llama-server -m model.gguf        http://localhost:8080/v1/chat/completions
"""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass

from tinygrad_llm.backend.transfer import TransferError, in_time, open_request
from tinygrad_llm.errors import DataError
from tinygrad_llm.finetuning.responses import Response

_MOST_BYTES = 1 << 20  # of an answer; a mark needs a few hundred
_QUESTION = (
    "Given the input `{question}` and the correct output `{reference}`, score the model response "
    "`{answer}` on a scale from 0 to 100, where 100 is the best score. Respond with the integer "
    "number only."
)


@dataclass(frozen=True)
class Judge:
    """Asks a model behind a local HTTP endpoint.

    Attributes:
        url: the endpoint, see above.
        model: its name for the model, such as "llama3".
        timeout: seconds that one mark may take.
    """

    url: str
    model: str = "llama3"
    timeout: float = 120.0

    def marks(self, responses: Sequence[Response]) -> list[int | None]:
        """A mark for each response; None where the judge gave no number.

        Raises:
            DataError: the server does not answer, or not in the protocol.
        """
        return [self._mark(r) for r in responses]

    def _mark(self, response: Response) -> int | None:
        question = f"{response.instruction} {response.input}".strip()
        content = _QUESTION.format(
            question=question, reference=response.reference, answer=response.answer
        )
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "seed": 123,
            "stream": False,
        }
        found = re.search(r"\d+", self._ask(body))
        if found is None:
            return None
        digits = found[0].lstrip("0") or "0"
        return int(digits) if len(digits) <= 2 else 100

    def _ask(self, body: dict) -> str:
        if not self.url.startswith(("http://", "https://")):
            raise DataError(f"judge: expected an http:// address, got {self.url!r}.")
        try:
            answer = in_time(self.timeout, "no answer", lambda: self._send(json.dumps(body)))
        except TransferError as error:
            raise DataError(
                f"judge: {self.url} does not answer ({error}). Start the server, or leave "
                "--judge out; the other scores need no server."
            ) from error
        try:
            content = json.loads(answer)["choices"][0]["message"]["content"]
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            content = error
        if not isinstance(content, str):
            raise DataError(
                f"judge: {self.url} answered with something other than a chat completion: "
                f"{answer[:80]!r}."
            )
        return content

    def _send(self, body: str) -> bytes:
        request = urllib.request.Request(
            self.url, body.encode("utf-8"), {"Content-Type": "application/json"}
        )
        with open_request(request, self.timeout) as reply:
            return reply.read(_MOST_BYTES)


def mean_mark(marks: Sequence[int | None]) -> float:
    """Mean of the marks that were given; 0 where there is none."""
    given = [m for m in marks if m is not None]
    return sum(given) / len(given) if given else 0.0
