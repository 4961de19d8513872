"""A set of preferences whose right answer is known, to see whether preference tuning works.

Each prompt asks to do something with a name; the polite answer is wanted, the rude one is not. The
rule is simple, and the names of the test part never occur in training: a model that raises its
margin there has learned the rule and not the examples.
"""

from __future__ import annotations

from tinygrad_llm.backend.random import Generator
from tinygrad_llm.errors import ConfigError
from tinygrad_llm.finetuning.preference import Preference

_NAMES = (
    "Ada",
    "Alan",
    "Anna",
    "Ben",
    "Carl",
    "Clara",
    "David",
    "Emma",
    "Eva",
    "Felix",
    "Frank",
    "Grace",
    "Hanna",
    "Hugo",
    "Ida",
    "Ivan",
    "Jan",
    "Julia",
    "Karl",
    "Laura",
    "Leo",
    "Lisa",
    "Maria",
    "Max",
    "Nina",
    "Nora",
    "Oscar",
    "Otto",
    "Paul",
    "Peter",
    "Rosa",
    "Sarah",
    "Simon",
    "Sofia",
    "Theo",
    "Tom",
    "Uma",
    "Vera",
    "Viktor",
    "Willa",
)
_TASKS = (
    # (what is asked, the polite answer, the rude answer)
    ("Say hello to {}.", "Hello {}, how nice to see you.", "{}, you again."),
    ("Thank {} for the help.", "Thank you very much, {}.", "That took long, {}."),
    ("Ask {} to wait.", "{}, would you please wait a moment?", "{}, stay there."),
    ("Tell {} that the shop is closed.", "I am sorry, {}, we are closed.", "Closed. Go, {}."),
    ("Invite {} to dinner.", "Would you like to join us for dinner, {}?", "{}, come and eat."),
)


def polite_preferences(seed: int = 0) -> tuple[list[Preference], list[Preference]]:
    """Training and test pairs, 150 and 50, about different people.

    Raises:
        ConfigError: the seed is no integer from 0.
    """
    if not isinstance(seed, int) or seed < 0:
        raise ConfigError(f"seed: expected an integer of at least 0, got {seed!r}.")
    order = Generator(seed).permutation(len(_NAMES))
    cut = len(_NAMES) * 3 // 4
    return _pairs([_NAMES[i] for i in order[:cut]]), _pairs([_NAMES[i] for i in order[cut:]])


def _pairs(names: list[str]) -> list[Preference]:
    return [
        Preference(ask.format(name), polite.format(name), rude.format(name))
        for name in names
        for ask, polite, rude in _TASKS
    ]
