"""Commands that write a folder, how each goes on after a stop, and what it has to end with."""

from __future__ import annotations

import hashlib
import os
import random
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data.topics import topics

from tests.reliability.damage import damage_a_file
from tests.reliability.faults import KILL, Fault
from tests.reliability.processes import Outcome, run
from tests.reliability.saved import KINDS, model_of, tokenizer_of
from tests.reliability.trials import Count, failing, hidden, short
from tinygrad_llm import nn
from tinygrad_llm.__main__ import main

_SMALL = (
    "--tokenizer char --n-layer 1 --n-head 2 --n-embd 8 --context-length 16 --batch-size 4 "
    "--steps 16 --warmup 2 --dropout 0.1 --eval-every 4 --eval-tokens 128 --checkpoint-every 4 "
    "--log-every 2 --sample-every 0 --keep 1 --histograms-every 8 --no-plot --no-progress "
    "--learning-rate 1 --seed 1"
).split()  # the best checkpoints are those of steps 4 and 12
_NEVER_THE_SAME = ("timing.jsonl", "training_state.json", "finetuning.json", "config.toml")


@dataclass(frozen=True)
class Command:
    """A command by its words; ``OUT`` and ``WORK`` stand for folders.

    Attributes:
        words: as it is first called.
        further: what is added when it is called again.
        result: a checksum over what it left.
        before: words of a call that was there before, whose result is replaced.
        look: what an opener sees of the folder at any moment; None: it is not asked.
        asked: words of a command that reads the result, and says the same of the same.
    """

    words: Sequence[str]
    further: Sequence[str]
    result: Callable[[Path], str]
    before: Sequence[str] = ()
    look: Callable[[Path], str] | None = None
    asked: Sequence[str] = ()


def _every_file(out: Path) -> str:
    """A checksum over names, links and contents; hidden files are asked for elsewhere."""
    digest = hashlib.sha256()
    for path in sorted(out.rglob("[!.]*")):
        digest.update(str(path.relative_to(out)).encode())
        if path.is_symlink():
            digest.update(os.readlink(path).encode())
        elif path.is_file() and path.suffix != ".png" and path.name not in _NEVER_THE_SAME:
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def _filter(out: Path) -> str:
    """The filter that --predict would ask."""
    return KINDS["classifier"].look(out / "full")


_TRAIN = ["train", "--data", "WORK/page.txt", "--out", "OUT", *_SMALL]
_SPAM = "finetune spam --base WORK/base --sets full --epochs 1 --out OUT --trainable".split()
_SCORE = "generate OUT --perplexity --text WORK/page.txt".split()
_PREDICT = "finetune spam --out OUT --predict prize".split()
_COUNT = ["train", "--data", "OUT", "--out", "WORK/counted", *_SMALL, "--steps", "1"]
_TOKENIZE = "tokenize WORK/long.txt --out OUT --shard-mb 1 --workers 1 --vocab-size 270".split()
COMMANDS: dict[str, Command] = {
    "train": Command(_TRAIN, ["--resume"], _every_file, asked=_SCORE),
    "train --overwrite": Command(
        [*_TRAIN, "--overwrite"], [], _every_file, before=[*_TRAIN, "--seed", "2", "--keep", "2"]
    ),
    "tokenize": Command(_TOKENIZE, [], _every_file, asked=_COUNT),
    "finetune spam": Command([*_SPAM, "head"], ["--resume"], _filter, asked=_PREDICT),
    "finetune spam --overwrite": Command(
        [*_SPAM, "head", "--overwrite"], [], _filter, [*_SPAM, "lora"], _filter
    ),
}


class Called:
    """A command in a folder of its own, to be struck and called again.

    Args:
        name: of `COMMANDS`.
        work: an empty folder.
    """

    def __init__(self, name: str, work: Path) -> None:
        self.command, self.name = COMMANDS[name], name
        self.work, self.out = work, work / "out"
        work.mkdir(parents=True)
        page = topics["calls"][:5000]
        (work / "page.txt").write_text(page, encoding="utf-8")
        if name == "tokenize":
            (work / "long.txt").write_text((page + "\n") * 240, encoding="utf-8")
        nn.save_model(model_of(1), work / "base", tokenizer_of(1))
        self.known = {}
        if self.command.before:
            _must(self._run(self.command.before))
            self.known[self.look()] = "old"
            self.out.rename(work / "before")
        whole = _must(self.call())
        self.events, self.result = whole.events, whole.value[1]
        self.hidden = hidden(self.out)
        self.known[self.look()] = "new"

    def call(self, fault: Fault | None = None, again: bool = False) -> Outcome:
        """Call it, in the folder as it was before or once more: (status, result)."""
        if again:
            return self._run([*self.command.words, *self.command.further])
        shutil.rmtree(self.out, ignore_errors=True)
        if self.command.before:
            shutil.copytree(self.work / "before", self.out, symlinks=True)
        return self._run(self.command.words, fault)

    def _run(self, words: Sequence[str], fault: Fault | None = None) -> Outcome:
        placed = [w.replace("OUT", str(self.out)).replace("WORK", str(self.work)) for w in words]
        return run(status_and_result, self.name, placed, self.out, folder=self.out, fault=fault)

    def ask(self) -> tuple[str, str]:
        """Call the command that reads the result: ("answered", what it says) or how it ended."""
        shutil.rmtree(self.work / "counted", ignore_errors=True)
        asked = self._run(self.command.asked)
        if not asked.clean:
            return "raw" if asked.raw else "hang" if asked.hung else "dead", short(asked)
        if asked.refusal or asked.value[0]:
            return "refused", asked.said
        return "answered", re.sub(r"[\d.,]+ ?(s|MB|tokens/s|/s)\b", "", asked.said)

    def look(self) -> str:
        """What an opener sees: its checksum, or how it ended."""
        if self.command.look is None:
            return ""
        seen = run(look_at_result, self.name, self.out, folder=self.out)
        if seen.clean:
            return seen.value or "refused"
        return "hang" if seen.hung else "raw"

    def goes_on(self) -> tuple[str, str]:
        """Call it again: ("as undisturbed", "") or what came instead, and what was said."""
        again = self.call(again=True)
        if not again.clean:
            return ("hang" if again.hung else "raw"), short(again)
        if again.refusal:
            return "refused", again.refusal
        status, result = again.value
        if status:
            return "does not go on", again.said.strip().splitlines()[-1][:300]
        if result != self.result:
            return "another result", str(sorted(p.name for p in self.out.iterdir()))
        left = sorted(hidden(self.out) - self.hidden)
        return ("left behind", left[0]) if left else ("as undisturbed", "")


def _must(outcome: Outcome) -> Outcome:
    if not outcome.clean or outcome.value[0]:
        raise AssertionError(f"undisturbed: {outcome}")
    return outcome


def status_and_result(name: str, words: Sequence[str], out: Path) -> tuple[int, str]:
    """The exit status of a command, and the result that it left."""
    status = main(list(words))
    return status, "" if status else COMMANDS[name].result(out)


def look_at_result(name: str, out: Path) -> str:
    """What an opener sees of a command's folder."""
    found = COMMANDS[name].look
    return found(out) if found else ""


def crashes_of_commands(called: Called, every: int = 1) -> Count:
    """Kill the command before each event, open what is there, and call it again."""
    count = Count()
    for at in range(0, len(called.events), every):
        called.call(Fault(at, KILL))
        where = f"{called.name}, killed at {at}: {called.events[at]}"
        seen = called.look()
        if seen != "refused" and seen not in called.known:
            count.add(seen if seen in ("raw", "hang") else "mix", where, find=True)
        verdict, said = called.goes_on()
        count.add(verdict, f"{where}: {said}", verdict != "as undisturbed")
    return count


def errors_of_commands(called: Called, every: int, kinds: Sequence[str]) -> Count:
    """Let each event fail: no traceback, and it goes on afterwards."""
    count = Count()
    for what, at in failing(called.events, every, kinds):
        ended = called.call(Fault(at, what))
        where = f"{called.name}, {what} at {at}: {called.events[at]}"
        if not ended.clean:
            count.add_afterwards(f"{'hang' if ended.hung else 'raw'}: {short(ended)}", where)
        verdict, said = called.goes_on()
        count.add(verdict, f"{where}: {said}", verdict != "as undisturbed")
    return count


def damages_of_commands(called: Called, tries: int, seed: int) -> Count:
    """Damage a file of a finished folder, ask for the result, and go on with it.

    What is asked is answered as before, or refused; going on ends without a traceback.
    """
    count, rng = Count(), random.Random(seed)
    called.call()
    kept = called.work / "finished"
    called.out.rename(kept)
    shutil.copytree(kept, called.out, symlinks=True)
    answer = called.ask()
    while count.tries < tries:
        shutil.rmtree(called.out)
        shutil.copytree(kept, called.out, symlinks=True)
        done = damage_a_file(called.out, rng)
        if not done:
            continue
        verdict, said = called.ask()
        if verdict == "answered" and said != answer[1]:
            verdict = "silent"
        where = f"{called.name}, {done}"
        count.add(verdict, f"{where}: {said}", verdict not in ("refused", "answered"))
        again, said = called.goes_on()
        count.add_afterwards(f"{again}: {said}" if again in ("raw", "hang") else "", where)
    return count
