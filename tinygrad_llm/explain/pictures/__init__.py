"""Pictures of a model: each function returns a matplotlib figure (``.savefig("x.png")``).

    from tinygrad_llm.explain import pictures
    pictures.attention_maps(model, ids, labels)        what each head looks at
    pictures.gradient_flow(model)                      gradients per layer, after backward()
    pictures.loss_landscape(model, ids, targets)       the loss around the parameters
    pictures.embedding_map(model, labels)              the embeddings in two dimensions
    pictures.show(draw, alt)                           one of your own, in a notebook or a file

Needs matplotlib: pip install 'tinygrad_llm[plot]'. The numbers behind each picture can be had
without it: `attention_weights`, `gradient_norms`, `measure_landscape`, `principal_components`.
"""

from tinygrad_llm.explain.pictures.attention import attention_maps, attention_weights
from tinygrad_llm.explain.pictures.embeddings import (
    analogy,
    embedding_map,
    neighbours,
    principal_components,
)
from tinygrad_llm.explain.pictures.gradients import gradient_flow, gradient_norms
from tinygrad_llm.explain.pictures.landscape import Landscape, loss_landscape, measure_landscape
from tinygrad_llm.explain.pictures.show import show

__all__ = [
    "Landscape",
    "analogy",
    "attention_maps",
    "attention_weights",
    "embedding_map",
    "gradient_flow",
    "gradient_norms",
    "loss_landscape",
    "measure_landscape",
    "neighbours",
    "principal_components",
    "show",
]
