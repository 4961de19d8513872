"""Sentences of a small English and their translations into a made-up language.

In the second language nouns are of one of two kinds (ending -o or -a), adjectives follow the noun
in reverse order and agree with it, the article comes last, the object stands before the subject,
and the verb at the end agrees with the subject. None of this can be done word by word:

    the red fox sees a big house   ->   tira granda un ruvo rubo en vidot
"""

from __future__ import annotations

from tinygrad_llm.backend.random import Generator

NOUNS = {
    **{"dog": "kelo", "king": "maro", "bird": "pito", "child": "beno", "fox": "ruvo"},
    **{"house": "tira", "river": "sela", "book": "lona", "stone": "gada", "song": "mira"},
}
ADJECTIVES = {"big": "grand", "small": "min", "old": "vet", "red": "rub", "quiet": "sil"}
VERBS = {"sees": "vid", "finds": "trov", "likes": "am", "carries": "port", "forgets": "ob"}
ARTICLES = {"the": "en", "a": "un"}
DICTIONARY = NOUNS | ADJECTIVES | VERBS | ARTICLES

Pairs = list[tuple[str, str]]


def load(n_drawn: int = 6000, n_held_out: int = 500, seed: int = 1) -> tuple[Pairs, Pairs]:
    """(training pairs, held-out pairs) of sentence and translation; no sentence is in both.

    Args:
        n_drawn: sentences drawn; those that come twice are kept once.
        n_held_out: how many of them no training sees.
        seed: of the draws and of the order.
    """
    random = Generator(seed)
    pairs = sorted({sentence_pair(random) for _ in range(n_drawn)})
    pairs = [pairs[i] for i in random.permutation(len(pairs))]
    return pairs[:-n_held_out], pairs[-n_held_out:]


def sentence_pair(random: Generator) -> tuple[str, str]:
    """A sentence and its translation."""
    subject, object_ = noun_phrase(random), noun_phrase(random)
    verb = list(VERBS)[int(random.integers(0, len(VERBS)))]
    final = VERBS[verb] + NOUNS[subject[-1]][-1] + "t"
    words = [*translate_phrase(object_), *translate_phrase(subject), final]
    return " ".join([*subject, verb, *object_]), " ".join(words)


def noun_phrase(random: Generator) -> list[str]:
    """An article, up to two different adjectives, a noun."""
    order = random.permutation(len(ADJECTIVES))[: int(random.integers(0, 3))]
    adjectives = [list(ADJECTIVES)[i] for i in order]
    article = list(ARTICLES)[int(random.integers(0, 2))]
    return [article, *adjectives, list(NOUNS)[int(random.integers(0, len(NOUNS)))]]


def translate_phrase(words: list[str]) -> list[str]:
    """Noun, adjectives in reverse with its ending, article."""
    article, *adjectives, noun = words
    ending = NOUNS[noun][-1]
    changed = [ADJECTIVES[a] + ending for a in reversed(adjectives)]
    return [NOUNS[noun], *changed, ARTICLES[article]]


def stems(sentence: str) -> list[str]:
    """The words of a translation without their endings, nouns as they are."""
    kinds = [*ADJECTIVES.values(), *VERBS.values()]
    return [next((k for k in kinds if w.startswith(k)), w) for w in sentence.split()]
