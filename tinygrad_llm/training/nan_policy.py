"""What to do when a loss or a gradient is NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from tinygrad_llm.autograd.anomaly import detect_anomaly
from tinygrad_llm.backend import Array, array_module, is_array
from tinygrad_llm.errors import NumericsError
from tinygrad_llm.nn import Module

MOST_SKIPPED_IN_A_ROW = 20
_ADVICE = "Lower the learning rate, lengthen the warm-up, or set a smaller clip."


def name_guilty_op(repeat: Callable[[], object], step: int, loss: float, norm: float) -> None:
    """Compute the step again with every op watched, and raise the error that names the first op.

    Args:
        repeat: computes loss and gradients again, with the same random numbers.
        step: number of the step, counted from 0.
        loss, norm: what they came to.

    Raises:
        NumericsError: always.
    """
    head = f"step {step + 1}: the loss is {loss}, the norm of the gradient {norm}."
    try:
        with detect_anomaly():
            repeat()
    except NumericsError as error:
        raise NumericsError(f"{head} First cause: {error} {_ADVICE}") from error
    raise NumericsError(
        f"{head} No single op made a NaN or an infinity: the sum of the squared gradients is too "
        f"large for its type. {_ADVICE}"
    )


def refuse_endless_skipping(skipped_in_a_row: int, step: int) -> None:
    """Stop a run that only skips.

    Raises:
        NumericsError: too many steps in a row were skipped.
    """
    if skipped_in_a_row >= MOST_SKIPPED_IN_A_ROW:
        raise NumericsError(
            f"step {step + 1}: {skipped_in_a_row} steps in a row had a NaN or infinite loss or "
            f"gradient and were skipped; the model no longer learns. {_ADVICE}"
        )


def refuse_to_save(model: Module, optimizer_state: Mapping[str, object], step: int) -> None:
    """Stop a run whose weights are no numbers any more, before it saves them.

    Checkpoints of such weights would push out the good ones, and the run could not go on from
    them: where steps are skipped, it may not have noticed for long.

    Args:
        model: what would be saved.
        optimizer_state: likewise, from ``Optimizer.state_dict``.
        step: number of steps done.

    Raises:
        NumericsError: a weight, or a number of the optimizer's state, is NaN or infinite.
    """
    weights = ((name, parameter.data) for name, parameter in model.named_parameters())
    for owner, arrays in (("weights", weights), ("optimizer", _arrays(optimizer_state))):
        for name, array in arrays:
            if array.dtype.kind == "f" and not array_module(array).isfinite(array).all():
                raise NumericsError(
                    f"step {step}: {owner}: {name!r} holds a NaN or an infinity; this step is not "
                    f"saved. {_ADVICE}"
                )


def _arrays(tree: object, path: str = "") -> Iterator[tuple[str, Array]]:
    """The arrays of nested tables, with their paths."""
    if is_array(tree):
        yield path, tree
    elif isinstance(tree, Mapping):
        for key, value in tree.items():
            yield from _arrays(value, f"{path}.{key}" if path else str(key))
