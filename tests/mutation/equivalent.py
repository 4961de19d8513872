"""Mutants that compute the same as the program, and why no test can notice them."""

from __future__ import annotations

EQUIVALENT: dict[str, str] = {
    "tinygrad_llm/ops/softmax.py softmax_forward: 1 -> 2": (
        "A row without any probability is 0 divided by 1, or by 2."
    ),
    "tinygrad_llm/ops/select.py where_or_zero: y.dtype is dy.dtype -> (y.dtype is not dy.dtype)": (
        "Beside a Python number NumPy keeps the type, and converting to it makes a copy."
    ),
    "tinygrad_llm/optim/groups.py refuse_shared_memory: 0 -> 1 (2)": (
        'The end of the span before the first; the device of that, "", is nobody\'s.'
    ),
    "tinygrad_llm/ops/compare.py one_hot: -1 -> (1)": (
        "functional.one_hot, the only caller, always says num_classes."
    ),
    "tinygrad_llm/ops/order.py argsort: False -> True": ("Its callers always say descending."),
    "tinygrad_llm/ops/cross_entropy.py cross_entropy_rows: -1 -> (1) (4)": (
        "Of rows (N, V), axis 1 is the last."
    ),
    'tinygrad_llm/ops/multinomial.py multinomial: np.argsort(times, axis=-1, kind="stable") -> '
    "np.argsort(times, axis=-1)": (
        "Only tokens of weight 0 have equal times, the last, and those are never drawn."
    ),
    "tinygrad_llm/nn/containers.py Sequential._set_label: child._set_label(name) -> pass": (
        "A child got its name as its label when it was set."
    ),
    "tinygrad_llm/generation/beam_search.py _decided: done[-1].score >= most -> "
    "(done[-1].score > most)": (
        "Of equal scores the one found first is kept, whether the search goes on or not."
    ),
    "tinygrad_llm/generation/sampling.py _nucleus: reached[-1] >= wanted or k >= p.size -> "
    "(reached[-1] >= wanted and k >= p.size)": (
        "More candidates are sorted than needed, and cut to the same ones."
    ),
    "tinygrad_llm/generation/sampling.py penalize: scores > 0 -> (scores >= 0)": (
        "A score of 0 is 0 divided by the penalty, and 0 times it."
    ),
    "tinygrad_llm/generation/scoring.py _logprobs_of: np.take_along_axis(log_softmax(logits), "
    "wanted, axis=-1) -> np.take_along_axis(log_softmax(logits), wanted)": (
        "The last axis is NumPy's default."
    ),
}
