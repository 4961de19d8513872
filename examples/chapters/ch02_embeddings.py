# %% [markdown]
# # Chapter 2: Embeddings and positions
#
# A token's number says nothing: 17 is not more than 4. So each token gets a **vector**, a row of a
# table, and the rows are learned like every other weight. What use a row is put to decides what it
# comes to mean: words used alike get vectors alike.
#
# **Expect**: looking up a row equals multiplying by a one-hot vector, gradients included; from
# sentences alone, king - man + woman comes out nearest to queen. Some seconds.

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg

pictures = tg.explain.pictures
tg.manual_seed(0)

# %% [markdown]
# ## A lookup is a matrix product
#
# With a one-hot vector e(i), a 1 at place i and 0 elsewhere, e(i) W is row i of W. The product
# would cost V times as much for the same result. Its gradient tells what a lookup's must be: each
# row collects what arrived at the places where it was used.

# %%
table = tg.nn.Embedding(6, 3)
ids = np.array([2, 3, 2])
looked_up = table(ids)  # (3, 3)
product = tg.tensor(np.eye(6, dtype=np.float32)[ids]) @ table.weight
print(looked_up)
assert np.array_equal(looked_up.data, product.data)

dy = np.arange(9, dtype=np.float32).reshape(3, 3)
looked_up.backward(dy)
print("gradient of the table:\n", table.weight.grad)
assert np.array_equal(table.weight.grad[2], dy[0] + dy[2])  # used twice: summed
assert not table.weight.grad[[0, 1, 4, 5]].any()  # not used: zero

# %% [markdown]
# ## Positions
#
# The vector of a word is the same wherever it stands. Attention (chapter 3) does not notice order
# either: without more, "dog bites man" is "man bites dog". So a second table has a vector for each
# *position*, and the two are added.

# %%
config = tg.nn.GPTConfig(vocab_size=50, context_length=16, n_layer=1, n_head=2, n_embd=32)
model = tg.nn.GPT(config).eval()
sentence, swapped = [[7, 3, 9, 1]], [[9, 3, 7, 1]]
with tg.no_grad():
    with_positions = np.abs((model(sentence) - model(swapped)).data[0, -1]).max()
    model.position_embedding.weight.copy_(np.zeros((16, 32), np.float32))
    without = np.abs((model(sentence) - model(swapped)).data[0, -1]).max()
print(f"-> swapping two words changes the last logits by {with_positions:.4f}")
print(f"-> without positions by {without:.1e}")
assert with_positions > 1e-3
assert without < 1e-5

# %% [markdown]
# ## What vectors come to mean
#
# A small made-up world: persons are royal or not, male or female, old or young, and sentences
# mention a person together with words that fit. A GPT without any layer (embeddings and output
# only: a bigram model) learns to predict the next word. Nobody tells it what a king is.

# %%
PERSONS = {  # royal, female
    "king": (1, 0),
    "queen": (1, 1),
    "prince": (1, 0),
    "princess": (1, 1),
    "man": (0, 0),
    "woman": (0, 1),
    "boy": (0, 0),
    "girl": (0, 1),
}
YOUNG = {"prince", "princess", "boy", "girl"}
SAYS = {
    "royal": ("rules", "reigns", "commands"),
    "common": ("works", "farms", "sells"),
    "female": ("herself", "her", "hers"),
    "male": ("himself", "him", "his"),
    "young": ("plays", "grows", "learns"),
    "old": ("remembers", "advises", "teaches"),
}


def fitting_words(person: str) -> list[str]:
    """What may be said after a person."""
    royal, female = PERSONS[person]
    kinds = (
        "royal" if royal else "common",
        "female" if female else "male",
        "young" if person in YOUNG else "old",
    )
    return [word for kind in kinds for word in SAYS[kind]]


random = tg.Generator(0)
names = list(PERSONS)
said = [names[int(random.integers(0, 8))] for _ in range(4000)]
after = [fitting_words(name)[int(random.integers(0, 9))] for name in said]
vocabulary = sorted({*said, *after})
index = {word: i for i, word in enumerate(vocabulary)}
x = np.array([index[word] for word in said])
y = np.array([index[word] for word in after])

embedding = tg.nn.Embedding(len(vocabulary), 8)
with tg.no_grad():
    embedding.weight.copy_(0.1 * embedding.weight.data)  # what is left of chance should be small
output = tg.nn.Linear(8, len(vocabulary))
optimizer = tg.optim.AdamW([*embedding.parameters(), *output.parameters()], lr=0.02)
for _ in range(300):
    loss = tg.functional.cross_entropy(output(embedding(x)), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(
    f"-> loss {loss.item():.3f}; with nine equally likely words after each it is at least "
    f"{np.log(9):.3f}"
)
assert np.log(9) - 0.05 < loss.item() < np.log(9) + 0.1

# %% [markdown]
# Directions have a meaning now: the step from man to woman is the step from king to queen.

# %%
persons = np.stack([embedding.weight.data[index[name]] for name in names])  # (8, 8)
place = {name: i for i, name in enumerate(names)}
right = 0
for a, b, c, expected in (
    ("king", "man", "woman", "queen"),
    ("princess", "girl", "boy", "prince"),
    ("queen", "king", "prince", "princess"),
    ("boy", "man", "woman", "girl"),
):
    (found, cosine), *_ = pictures.analogy(persons, [place[a], place[c]], [place[b]], k=1)
    print(f"{a} - {b} + {c} = {names[found]} (cosine {cosine:.2f})")
    right += names[found] == expected
print(f"-> {right} of 4 analogies right")
assert right == 4

_, share = pictures.principal_components(persons, 3)
print(f"-> three directions hold {share.sum():.1%} of the persons' variance")
assert share.sum() > 0.7

# %% [markdown]
# Three yes-or-no properties: three of the eight directions hold most of what differs. Below, two
# of them: the arrows from male to female are nearly parallel.


# %%
def persons_on_a_plane(figure) -> None:
    """Along the two largest components, with arrows from male to female."""
    places, shares = pictures.principal_components(persons, 2)
    axes = figure.subplots()
    for name, (x, y) in zip(names, places, strict=True):
        axes.scatter(x, y, color="C1" if PERSONS[name][0] else "C0")
        axes.annotate(name, (x, y), (6, 4), textcoords="offset points")
    for male, female in (
        ("king", "queen"),
        ("prince", "princess"),
        ("man", "woman"),
        ("boy", "girl"),
    ):
        start, end = places[place[male]], places[place[female]]
        axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": "0.6"})
    axes.set(xlabel=f"component 1: {shares[0]:.0%} of the variance")
    axes.set(ylabel=f"component 2: {shares[1]:.0%} of the variance")
    axes.margins(0.15)


pictures.show(
    persons_on_a_plane,
    "Eight words for persons on a plane, royal ones orange: the arrows from king to queen, prince "
    "to princess, man to woman and boy to girl are nearly parallel.",
    size=(6, 4),
)

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch02_embeddings.py`.
#
#
# ### 1. The gradient of a table (easy)
#
# The ids (1, 1, 4) and (1, 0, 4) are looked up in a table with 6 rows, and the loss is the sum of
# all numbers found. Write down the gradient of the table before you let the engine compute it.
#
# ### 2. Order without positions (medium)
#
# Above, a model with one layer and no positions did not notice that two earlier words were swapped.
# Will a model with two layers notice? Predict it, with a reason, then measure.
#
# ### 3. Positions as rotations (hard)
#
# The original Transformer has no table of positions but sines and cosines of several frequencies.
# Show that "k places on" is one and the same matrix at every position, and that the dot product of
# two positions depends on their distance only. Derive the matrix, then check both with numbers.
