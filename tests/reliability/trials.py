"""Strikes savers and openers at each event, and counts what openers then see.

A saved folder must be seen as the old version, whole, or as the new one, whole, or be refused by
an error of this package. Anything else is a find: a mix, a raw traceback, a hang, a lost version.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.reliability.damage import damage_a_file
from tests.reliability.faults import FULL, KILL, PAUSE, Fault, sign_of
from tests.reliability.processes import Outcome, run, running
from tests.reliability.saved import look, write

ERRORS = (FULL, "EIO", "EACCES")
_TOLD = "and names an older one"  # the warning of a run whose links could not be set


@dataclass
class Count:
    """What was seen in how many tries, and the finds among it, each with where it was."""

    tries: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    finds: list[str] = field(default_factory=list)

    def add(self, verdict: str, where: str, find: bool) -> None:
        """Count a try."""
        self.tries += 1
        self.seen[verdict] += 1
        if find:
            self.finds.append(f"{verdict}: {where}")

    def add_afterwards(self, trouble: str, where: str) -> None:
        """Note what went wrong after a try; "" is nothing."""
        if trouble:
            self.seen["trouble afterwards"] += 1
            self.finds.append(f"{where}: {trouble}")

    def __str__(self) -> str:
        listed = ", ".join(f"{name} {n}" for name, n in self.seen.most_common())
        return f"{self.tries} tries, {len(self.finds)} finds ({listed})"


class Saved:
    """A kind of folder in three versions, to be struck while the second replaces the first.

    Args:
        kind: of `saved.KINDS`.
        work: an empty folder for the trials.
        older: the first version is there before; else nothing is.
    """

    def __init__(self, kind: str, work: Path, older: bool = True) -> None:
        self.kind, self.work, self.older = kind, work, older
        self.base, self.trial = work / "base", work / "trial"
        self.versions = {}
        work.mkdir(parents=True)
        whole = work / "whole"
        for version in (1, 2, 3):
            self._must(run(write, kind, whole, version, folder=whole))
            self.versions[self._must(run(look, kind, whole, folder=whole)).value] = version
            if version == 1 and older:
                shutil.copytree(whole, self.base, symlinks=True)
        self.hidden = hidden(whole)
        self.events = self._must(self.save(2)).events

    def _must(self, outcome: Outcome) -> Outcome:
        if not outcome.clean or outcome.refusal:
            raise AssertionError(f"{self.kind}, undisturbed: {outcome}")
        return outcome

    def save(
        self,
        version: int,
        fault: Fault | None = None,
        fresh: bool = True,
        then: Callable[[], object] | None = None,
    ) -> Outcome:
        """Save over the first version, or over what the trial left; ``then`` as for `run`."""
        if fresh:
            self.reset()
        arguments = (write, self.kind, self.trial, version)
        return run(*arguments, folder=self.trial, fault=fault, then=then)

    def reset(self) -> None:
        """The trial's folder as it is before the second version is saved."""
        for path in (self.trial, sign_of(self.trial)):
            shutil.rmtree(path, ignore_errors=True)
        if self.base.exists():
            shutil.copytree(self.base, self.trial, symlinks=True)

    def look(
        self,
        fault: Fault | None = None,
        reads: bool = False,
        seconds: float = 60,
        then: Callable[[], object] | None = None,
    ) -> Outcome:
        """What an opener sees; the arguments are those of `run`."""
        arguments = (look, self.kind, self.trial)
        return run(
            *arguments, folder=self.trial, fault=fault, reads=reads, seconds=seconds, then=then
        )

    def judge(self, outcome: Outcome) -> str:
        """One word: "old", "new", "refused", "mix", "raw", "hang" or "dead"."""
        if not outcome.clean:
            return "raw" if outcome.raw else "hang" if outcome.hung else "dead"
        if outcome.refusal:
            return "refused"
        return {1: "old", 2: "new", 3: "third"}.get(self.versions.get(outcome.value, 0), "mix")

    def expected(self) -> tuple[str, ...]:
        """What may be seen after a save that was cut off."""
        return ("old", "new") if self.older else ("refused", "new")

    def saves_again(self) -> str:
        """A third version is saved over what is there: "", or what went wrong."""
        again = self.save(3, fresh=False)
        if not again.clean or again.refusal:
            return f"saving again: {again.refusal or self.judge(again)}"
        seen = self.judge(self.look())
        left = sorted(hidden(self.trial) - self.hidden)
        if seen != "third":
            return f"saved again, it is {seen}"
        return f"left behind: {left[0]}" if left else ""


def hidden(folder: Path) -> set[str]:
    """The names that begin with a dot, such as those of temporary files."""
    return {str(p.relative_to(folder)) for p in folder.rglob(".*")}


def crashes(saved: Saved, every: int = 1) -> Count:
    """Kill the saver before each event; look; then save again."""
    count = Count()
    for at in range(0, len(saved.events), every):
        where = f"{saved.kind}, killed at {at}: {saved.events[at]}"
        if not saved.save(2, Fault(at, KILL)).killed:
            raise AssertionError(f"{where}: was not killed")
        seen = saved.look()
        verdict = saved.judge(seen)
        count.add(verdict, f"{where}: {short(seen)}", verdict not in saved.expected())
        count.add_afterwards(saved.saves_again(), where)
    return count


def crashes_of_openers(saved: Saved, every: int = 1) -> Count:
    """Where an opener finishes what a killed saver began, kill it too, at each of its events."""
    count = Count()
    for at in range(0, len(saved.events), every):
        saved.save(2, Fault(at, KILL))
        kept = saved.work / "kept"
        shutil.rmtree(kept, ignore_errors=True)
        if not saved.trial.exists():
            continue
        shutil.copytree(saved.trial, kept, symlinks=True)
        steps = saved.look().events
        for step in range(0, len(steps), every):
            shutil.rmtree(saved.trial)
            shutil.copytree(kept, saved.trial, symlinks=True)
            saved.look(Fault(step, KILL))
            seen = saved.look()
            verdict = saved.judge(seen)
            where = f"{saved.kind}, killed at {saved.events[at]}, its opener at {steps[step]}"
            count.add(verdict, f"{where}: {short(seen)}", verdict not in saved.expected())
    return count


def errors(saved: Saved, every: int = 1, kinds: Sequence[str] = ERRORS) -> Count:
    """Let each event fail: the saver says so by an error of its own, and nothing is lost."""
    count = Count()
    for what, at in failing(saved.events, every, kinds):
        where = f"{saved.kind}, {what} at {at}: {saved.events[at]}"
        ended = saved.save(2, Fault(at, what))
        if not ended.clean:
            count.add(saved.judge(ended), f"{where}: {short(ended)}", find=True)
            continue
        seen = saved.look()
        verdict = saved.judge(seen)
        told = ended.refusal or _TOLD in ended.said
        find = verdict not in (saved.expected() if told else ("new",))
        said = "refused" if ended.refusal else "told" if told else "saved"
        count.add(f"{said}, then {verdict}", f"{where}: {short(seen)}", find)
        count.add_afterwards(saved.saves_again(), where)
    return count


def errors_of_openers(saved: Saved, every: int = 1) -> Count:
    """Let each file that is opened, and each event of an opener, fail."""
    count = Count()
    saved.reset()
    events = saved.look(reads=True).events
    for what, at in failing(events, every, ("EIO", "EACCES")):
        saved.reset()
        seen = saved.look(Fault(at, what), reads=True)
        verdict = saved.judge(seen)
        where = f"{saved.kind}, {what} at {events[at]}: {short(seen)}"
        count.add(verdict, where, verdict not in ("old", "refused"))
    return count


def failing(events: Sequence[str], every: int, kinds: Sequence[str]) -> Iterator[tuple[str, int]]:
    for what in kinds:
        for at in range(0, len(events), every):
            if Fault(at, what).concerns(events[at].split()[0]):
                yield what, at


def readers(saved: Saved, every: int = 1) -> Count:
    """Open while the saver stands still at each event; it must end well afterwards."""
    count = Count()
    for at in range(0, len(saved.events), every):
        where = f"{saved.kind}, opened at {at}: {saved.events[at]}"
        saved.reset()
        with _paused(saved, write, (2,), Fault(at, PAUSE)) as go_on:
            seen = saved.look(seconds=30, then=go_on)
            ended = go_on()
        verdict = saved.judge(seen)
        count.add(verdict, f"{where}: {short(seen)}", verdict not in (*saved.expected(), "refused"))
        after = "saver failed" if ended.refusal or not ended.clean else saved.judge(saved.look())
        count.add_afterwards("" if after == "new" else f"{after} {short(ended)}", where)
    return count


def overtaken(saved: Saved, every: int = 1) -> Count:
    """Save the second version while an opener stands still before each file that it opens."""
    count = Count()
    saved.reset()
    events = saved.look(reads=True).events
    for at in range(0, len(events), every):
        saved.reset()
        with _paused(saved, look, (), Fault(at, PAUSE), reads=True) as go_on:
            ended = saved.save(2, fresh=False, then=go_on)
            seen = go_on()
        verdict = saved.judge(seen)
        where = f"{saved.kind}, saved while opened at {at}: {events[at]}: {short(seen)}"
        count.add(verdict, where, verdict not in (*saved.expected(), "refused"))
        failed = ended.refusal or not ended.clean
        count.add_afterwards(f"saver: {short(ended)}" if failed else "", where)
    return count


@contextmanager
def _paused(
    saved: Saved,
    task: Callable[..., object],
    more: tuple[int, ...],
    pause: Fault,
    reads: bool = False,
) -> Iterator[Callable[[], Outcome]]:
    """A saver or opener that stands still; the function lets it go on, and gives its outcome."""
    sign, known = sign_of(saved.trial), []
    arguments = (task, saved.kind, saved.trial, *more)
    with running(*arguments, folder=saved.trial, fault=pause, reads=reads) as (process, result):
        while process.is_alive() and not sign.exists():
            process.join(0.002)

        def go_on() -> Outcome:
            sign.unlink(missing_ok=True)
            if not known:
                known.append(result.recv() if result.poll(60) else Outcome(hung=True))
            return known[0]

        yield go_on


def damages(saved: Saved, tries: int, seed: int) -> Count:
    """Damage a file; an opener sees what was saved, or refuses."""
    count, rng = Count(), random.Random(seed)
    while count.tries < tries:
        saved.reset()
        done = damage_a_file(saved.trial, rng)
        if not done:
            continue
        seen = saved.look(seconds=30)
        verdict = saved.judge(seen)
        where = f"{saved.kind}, {done}: {short(seen)}"
        count.add(
            "silent" if verdict == "mix" else verdict, where, verdict not in ("old", "refused")
        )
    return count


def short(outcome: Outcome) -> str:
    """The end of what was said."""
    text = outcome.raw or outcome.refusal or str(outcome.value)
    return text.strip().splitlines()[-1][:160]
