# %% [markdown]
# # Chapter 7: Fine-tuning to follow instructions
#
# The third stage. A pretrained GPT continues text: asked a question, it may go on with another
# question. Instruction tuning shows it pairs of task and answer in a fixed form, and counts only
# the answer in the loss. It is the same loss as before, with a mask.
#
# The 100 made-up instructions that ship with the package are of a few kinds, and the model has a
# quarter of a million parameters: it learns the *form* of an answer, not facts. Real answers need
# `python examples/finetune_instructions.py --base gpt2-medium --data instruction-data`.
#
# **Expect**: before, no answer has the right form; afterwards most do: they begin as such an
# answer begins, and stop. What they say is mostly wrong, for 80 examples teach no
# facts. Preference tuning then makes polite answers likelier than rude ones. Half a minute on one
# core.

# %%
from __future__ import annotations

from dataclasses import replace

import tinygrad_llm as tg
from tinygrad_llm.data.instructions import Instruction
from tinygrad_llm.data.templates import CHAT, CHAT_SPECIAL_TOKENS
from tinygrad_llm.finetuning.base_model import SMALL, pretrain
from tinygrad_llm.finetuning.collate import IGNORE
from tinygrad_llm.finetuning.constructed import polite_preferences
from tinygrad_llm.finetuning.instruction import (
    encode_instructions,
    evaluate_instructions,
    fit_instructions,
)
from tinygrad_llm.finetuning.loop import FitSettings
from tinygrad_llm.finetuning.preference import (
    Preference,
    encode_preferences,
    evaluate_preferences,
    fit_preferences,
    with_reference,
)
from tinygrad_llm.finetuning.responses import respond, score_responses, show

tg.manual_seed(0)

# %% [markdown]
# ## Instructions
#
# A task, what it is about, and the answer. The test questions are never shown in training.

# %%
entries = tg.data.instructions.load()
train, validation, test = tg.data.instructions.split(entries, train=0.8, validation=0.1)
for entry in train[:3]:
    print(f"{entry.instruction} [{entry.input}] -> {entry.output}")
print(f"-> {len(train)} training, {len(validation)} validation, {len(test)} test instructions")

# %% [markdown]
# ## A base model

# %%
size = replace(
    SMALL,
    n_layer=2,
    n_embd=96,
    vocab_size=512,
    context_length=96,
    steps=250,
    seed=0,
    learning_rate=3e-3,
    eval_every=0,
)
prose = [document.text for document in tg.data.corpora.load("pydoc")]
read = [f"{e.instruction}\n{e.input}\n{e.output}" for e in train]
base = pretrain([*read, *prose], size, CHAT_SPECIAL_TOKENS, name="instructions and prose")
model, tokenizer = base.model, base.tokenizer

# %% [markdown]
# ## The form, and what counts
#
# Marks say who speaks. The mask says which tokens the model must learn to write: the answer and
# the end. What the user says is read, but not learned.

# %%
example = train[0]
print(CHAT.text(example.turns()))
ids, is_answer = CHAT.encode(example.turns(), tokenizer)
learned = tokenizer.decode([i for i, counts in zip(ids, is_answer, strict=True) if counts])
print(f"learned: {learned!r}")
assert learned.startswith(example.output)

encoded = [
    encode_instructions(part, CHAT, tokenizer, size.context_length)
    for part in (train, validation, test)
]
inputs, targets = encoded[0].inputs[0], encoded[0].targets[0]
counted = [t for t in targets if t != IGNORE]
assert counted == inputs[-len(counted) + 1 :] + [tokenizer.end_of_text_id]

# %% [markdown]
# ## Before and after

# %%
before = evaluate_instructions(model, encoded[2])["loss"]
scores_before = score_responses(respond(model, tokenizer, CHAT, test, 40), CHAT)
settings = FitSettings(epochs=20, batch_size=8, learning_rate=2e-3, patience=4, seed=0)
history = fit_instructions(model, encoded[0], encoded[1], settings)
after = evaluate_instructions(model, encoded[2])["loss"]
answers = respond(model, tokenizer, CHAT, test, 40)
scores = score_responses(answers, CHAT)
print(show(answers))
print(f"-> loss per answer token: {before:.2f} before, {after:.2f} after")
print(
    f"-> answers of the right form: {scores_before.well_formed:.0%} before, "
    f"{scores.well_formed:.0%} after"
)
print(
    f"-> words shared with the right answer (F1): {scores_before.token_f1:.2f} before, "
    f"{scores.token_f1:.2f} after"
)
assert after < before - 0.3
assert scores_before.well_formed < 0.3
assert scores.well_formed >= 0.5
assert scores.token_f1 > scores_before.token_f1


# %%
def mask_and_curves(figure) -> None:
    """Which tokens of an example are learned, and the loss of the answers."""
    tokens, curves = figure.subplots(2, 1, height_ratios=[1, 4])
    tokens.imshow([is_answer], cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    tokens.set(xlabel="token of the first example; blue: counted in the loss", yticks=[])
    curves.plot(*zip(*history.losses, strict=True), alpha=0.4, label="training, each step")
    curves.plot(history.column("step"), history.column("loss"), "o-", label="validation")
    curves.set(xlabel="step", ylabel="loss per answer token")
    curves.legend()


tg.explain.pictures.show(
    mask_and_curves,
    "A strip of tokens, of which only the answer at its end is coloured; below, the training loss "
    "keeps falling while the validation loss soon stays where it is.",
    size=(7, 4),
)

# %% [markdown]
# ## Preferences
#
# What is missing still is taste: of two answers that both have the right form, people like one
# better. Direct preference optimization raises the probability of the better one against the other,
# compared with the model before. The test prompts are about people who do not occur in training.
#
# Source: Rafailov et al., "Direct preference optimization", 2023.

# %%
pairs, unseen = polite_preferences()
print(f"{pairs[0].instruction}  better: {pairs[0].chosen!r}  worse: {pairs[0].rejected!r}")


def both_answers(pairs: list[Preference]) -> list[Instruction]:
    """Each prompt with the better and with the worse answer: first both are learned alike."""
    return [Instruction(p.instruction, "", a) for p in pairs for a in (p.chosen, p.rejected)]


alike = [
    encode_instructions(both_answers(part), CHAT, tokenizer, size.context_length)
    for part in (pairs, unseen)
]
fit_instructions(model, *alike, FitSettings(epochs=3, learning_rate=1e-3, seed=0))
data = [
    with_reference(encode_preferences(part, CHAT, tokenizer, size.context_length), model)
    for part in (pairs, unseen)
]
fit_preferences(model, *data, FitSettings(epochs=2, batch_size=8, learning_rate=3e-4, seed=0))
preferred = evaluate_preferences(model, data[1], beta=0.1)
print(
    f"-> the polite answer has gained on the rude one in {preferred['accuracy']:.0%} of "
    f"{len(unseen)} unseen prompts (margin {preferred['margin']:.2f})"
)
assert preferred["accuracy"] >= 0.9

# %% [markdown]
# ## Exercises
#
# Solutions: `examples/chapters/solutions/ch07_instructions.py`.
#
#
# ### 1. The gradient behind the mask (easy)
#
# Five positions, of which the first two are the user's and do not count. Write down the gradient of
# the logits, row by row, before you compute it. By what are the rows divided? And is everything
# lost that the user says?
#
# ### 2. The slope of DPO (medium)
#
# Derive the slope of the DPO loss with respect to the margin m between the better and the worse
# answer. What are loss and slope before the first step, and which pairs drive the training later?
# Check the slope at margins of -30, 0 and 30 with beta = 0.1.
#
# ### 3. Accumulating batches of different length (hard)
#
# A batch of four answers is computed in two pieces, as in the appendix on the training loop, with
# each piece's mean loss halved. The answers of the first piece have one token each, the others
# eight. Show that the gradient is not that of the whole batch, derive the right weights, and check
# them.
