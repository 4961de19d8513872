"""The made-up language: its grammar, and that nothing held out is seen in training."""

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.data import translation


def test_no_held_out_sentence_is_seen_in_training_and_a_seed_gives_the_same():
    train, held_out = translation.load(600, 50)
    assert len(held_out) == 50
    assert len({source for source, _ in [*train, *held_out]}) == len(train) + 50
    assert translation.load(600, 50) == (train, held_out)
    assert translation.load(600, 50, seed=2) != (train, held_out)


def test_the_grammar():
    assert translation.translate_phrase(["the", "big", "old", "house"]) == [
        *("tira", "veta", "granda", "en")
    ]
    source, target = translation.sentence_pair(Generator(3))
    subject = next(word for word in source.split() if word in translation.NOUNS)
    verb = next(word for word in source.split() if word in translation.VERBS)
    ending = translation.NOUNS[subject][-1]
    assert target.split()[-1] == translation.VERBS[verb] + ending + "t"
    assert len(source.split()) == len(target.split())
    words = {translation.DICTIONARY[word] for word in source.split()}
    assert set(translation.stems(target)) == words
