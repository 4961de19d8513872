"""What to do when a loss or a gradient is NaN or infinite."""

from __future__ import annotations

from collections.abc import Callable

from tinygrad_llm.autograd.anomaly import detect_anomaly
from tinygrad_llm.errors import NumericsError

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
