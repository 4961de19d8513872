# %% [markdown]
# # Solutions: Chapter 6

# %%
from __future__ import annotations

import numpy as np

import tinygrad_llm as tg
from tinygrad_llm.finetuning.classification import TextClassifier
from tinygrad_llm.finetuning.metrics import confusion_matrix, score

# %% [markdown]
# ## 1. Four numbers, four scores (easy)
#
# Of 100 messages 20 are spam. 15 of them are found, 5 missed, and 10 ham messages are called spam:
# TP = 15, FN = 5, FP = 10, TN = 70.
#
#     accuracy = (15 + 70) / 100 = 0.85         "always ham" has 0.80
#     precision = 15 / 25 = 0.6                 two of five warnings are false
#     recall = 15 / 20 = 0.75
#     F1 = 2 * 0.6 * 0.75 / 1.35 = 0.667        "always ham" has 0
#
# The accuracy is hardly better than that of a filter that does nothing, and F1 shows why one would
# use this filter all the same.

# %%
labels = np.array([1] * 20 + [0] * 80)
called = np.array([1] * 15 + [0] * 5 + [1] * 10 + [0] * 70)
print(confusion_matrix(labels, called, 2))
scores = score(labels, called)
print(f"-> accuracy {scores.accuracy}, precision {scores.precision}, F1 {scores.f1:.3f}")
assert (scores.accuracy, scores.precision, scores.recall) == (0.85, 0.6, 0.75)
assert abs(scores.f1 - 2 * 0.6 * 0.75 / 1.35) < 1e-12
assert score(labels, np.zeros(100, int)).f1 == 0

# %% [markdown]
# ## 2. A threshold from costs (medium)
#
# Calling a message spam costs 10 (1 - p) on average, namely if it is ham; letting it through costs
# p. The first is less when 10 (1 - p) < p, so from p = 10 / 11 on. In general the threshold is
# c / (c + 1) when a lost message is c times as bad: 1/2 is right only if both mistakes cost alike.
# This holds if the probabilities are honest: of all messages with p = 0.7, seven in ten are spam.

# %%
random = tg.Generator(0)
p = random.uniform((100_000,))
is_spam = random.uniform((100_000,)) < p  # honest probabilities
thresholds = np.linspace(0.5, 0.995, 100)
costs = [10 * (~is_spam & (p > t)).sum() + (is_spam & (p <= t)).sum() for t in thresholds]
best = thresholds[np.argmin(costs)]
print(f"-> cheapest threshold {best:.3f}, derived {10 / 11:.3f}")
assert abs(best - 10 / 11) < 0.03
assert min(costs) < costs[0] / 1.5  # than at 0.5

# %% [markdown]
# ## 3. A mean without the padding (hard)
#
# With n real positions the mean is y = (1 / n) sum over real t of h_t, so
#
#     dh_t = dy / n for a real position, 0 for padding
#
# Divide by n, not by T: otherwise short messages get small vectors, and the head sees lengths
# instead of words.


# %%
class RealMean(tg.Function):
    """h (B, T, C), real (B, T) of ones and zeros -> means (B, C)."""

    def forward(ctx, h, real):
        share = real / real.sum(axis=1, keepdims=True)  # (B, T)
        ctx.save(share)
        return (h * share[:, :, None]).sum(axis=1)

    def backward(ctx, dy):
        (share,) = ctx.saved
        return share[:, :, None] * dy[:, None, :], None  # no gradient of which are real


lengths = np.array([2, 5])
real = (np.arange(5) < lengths[:, None]).astype(np.float64)  # (B, T)
h = tg.Generator(1).normal((2, 5, 3))
report = tg.gradcheck(lambda h: RealMean.apply(h, real.astype(h.dtype)), [h])
print(f"-> gradient check: largest error {report.error:.1e}")

x = tg.tensor(h, requires_grad=True)
RealMean.apply(x, real.astype(np.float32)).sum().backward()
print("-> gradient at the positions of the short message:", x.grad[0, :, 0])
assert not x.grad[0, 2:].any()
assert np.allclose(x.grad[0, :2], 1 / 2)

tg.manual_seed(0)
gpt = tg.nn.GPT(tg.nn.GPTConfig(20, context_length=8, n_layer=1, n_head=2, n_embd=16))
classifier = TextClassifier(gpt, 2, pooling="mean").eval()
short, padded = [[3, 7]], [[3, 7, 0, 0, 0]]
difference = np.abs(classifier(short, [2]).data - classifier(padded, [2]).data).max()
print(f"-> with and without padding the logits differ by {difference:.1e}")
assert difference < 1e-6
