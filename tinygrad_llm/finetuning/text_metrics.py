"""Scores of a written answer against a reference answer, without a network and without a judge.

None of them knows whether an answer is true; they count what it shares with the reference. So read
them together, and read some of the answers.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tinygrad_llm.errors import DataError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WORD = re.compile(r"[a-z0-9]+")
_LOOP_WORDS, _LOOP_TIMES = 3, 4  # the same three words four times: the model goes in circles
_STUTTER = re.compile(r"(\S)\1{9}")  # the same character ten times


def normalize(text: str) -> str:
    """Lower case, without punctuation, articles and repeated spaces.

    Source: Rajpurkar et al., "SQuAD: 100,000+ questions for machine comprehension of text", 2016,
    section 6.1.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, reference: str) -> bool:
    """Equal after `normalize`."""
    return normalize(answer) == normalize(reference)


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall of the words, as bags, after `normalize`.

    Source: as `normalize`. Two empty texts score 1, one empty text 0.
    """
    ours, theirs = normalize(answer).split(), normalize(reference).split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs))


def rouge_l(answer: str, reference: str) -> float:
    """F-measure of the longest common subsequence of words: unlike `token_f1`, order counts.

    With L its length:  P = L / |answer|,  R = L / |reference|,  F = 2 P R / (P + R).

    Source: Lin, "ROUGE: a package for automatic evaluation of summaries", 2004, section 3, with
    beta = 1. Two empty texts score 1, one empty text 0.
    """
    ours, theirs = _WORD.findall(answer.lower()), _WORD.findall(reference.lower())
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * longest_common_subsequence(ours, theirs) / (len(ours) + len(theirs))


def longest_common_subsequence(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest sequence that both contain in order, with gaps allowed.

    Row by row of the usual table: best[j] is the length for the part of ``a`` so far and b[:j].
    """
    best = [0] * (len(b) + 1)
    for x in a:
        diagonal = 0
        for j, y in enumerate(b, start=1):
            above = best[j]
            best[j] = diagonal + 1 if x == y else max(above, best[j - 1])
            diagonal = above
    return best[-1]


def format_problems(answer: str, finished: bool, markers: Sequence[str] = ()) -> list[str]:
    """What is wrong with the form of an answer; an empty list is what one wants.

    Args:
        answer: the text.
        finished: whether the model ended it itself, rather than being cut off.
        markers: pieces of the template, which have no place in an answer.
    """
    words = answer.split()
    runs = Counter(tuple(words[i : i + _LOOP_WORDS]) for i in range(len(words) - _LOOP_WORDS + 1))
    checks = {
        "empty": not words,
        "cut off": not finished,
        "repeats itself": max(runs.values(), default=0) >= _LOOP_TIMES or _STUTTER.search(answer),
        "template in answer": any(m in answer for m in markers),
        "broken characters": "\ufffd" in answer,
    }
    return [problem for problem, found in checks.items() if found]


@dataclass(frozen=True)
class TextScores:
    """Means over a set of answers.

    Attributes:
        count: number of answers.
        exact_match, token_f1, rouge_l: fractions from 0 to 1.
        well_formed: share of answers without a `format_problems` entry.
        length_ratio: words in all answers / words in all references; 1 is right.
    """

    count: int
    exact_match: float
    token_f1: float
    rouge_l: float
    well_formed: float
    length_ratio: float

    def to_dict(self) -> dict[str, Any]:
        """The scores in JSON's types."""
        return asdict(self)


def score_answers(
    answers: Sequence[str],
    references: Sequence[str],
    finished: Sequence[bool],
    markers: Sequence[str] = (),
) -> TextScores:
    """The mean scores of answers against references.

    Raises:
        DataError: nothing to score, or lists of different lengths.
    """
    n = len(answers)
    if not n or len(references) != n or len(finished) != n:
        raise DataError(
            "score_answers: expected equally long lists of at least one answer, got "
            f"{n} answers, {len(references)} references, {len(finished)} flags."
        )
    pairs = list(zip(answers, references, strict=True))
    problems = [format_problems(a, f, markers) for a, f in zip(answers, finished, strict=True)]
    words = sum(len(r.split()) for r in references)
    return TextScores(
        count=n,
        exact_match=sum(exact_match(a, r) for a, r in pairs) / n,
        token_f1=sum(token_f1(a, r) for a, r in pairs) / n,
        rouge_l=sum(rouge_l(a, r) for a, r in pairs) / n,
        well_formed=sum(not p for p in problems) / n,
        length_ratio=sum(len(a.split()) for a in answers) / max(words, 1),
    )
