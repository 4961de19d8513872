"""The summary that is printed when a run ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tinygrad_llm.control_characters import one_line
from tinygrad_llm.errors import DataError, MissingDependencyError
from tinygrad_llm.generation.scoring import shown_perplexity
from tinygrad_llm.hints import command
from tinygrad_llm.training.loop_settings import TrainingResult
from tinygrad_llm.training.report.memory import peak_bytes, readable
from tinygrad_llm.training.report.plot import draw_loss
from tinygrad_llm.training.report.timed_lines import readable_time


def summarize(result: TrainingResult, folder: Path, steps: int, levels: Mapping[str, float]) -> str:
    """Final losses, speed, what was written, and the next command.

    Args:
        result: of `Trainer.fit`.
        folder: the run's.
        steps: as many as were planned.
        levels: entropies to compare the loss with.
    """
    lines = ["", _ending(result, steps)]
    if result.loss is not None:
        lines.append(f"  training loss      {result.loss:.4f} (smoothed)")
    if result.evaluation:
        old = result.evaluated_step not in (None, result.last_step)
        when = f" (at step {result.evaluated_step})" if old else ""
        lines.append(f"  validation loss    {_evaluation(result.evaluation)}{when}")
    if result.best_loss is not None and result.best_step != result.last_step:
        lines.append(f"  best               {result.best_loss:.4f} at step {result.best_step}")
    lines += [f"  {name:<18} {value:.4f}" for name, value in levels.items()]
    if result.skipped_steps:
        lines.append(f"  skipped steps      {result.skipped_steps} (NaN or infinity)")
    lines += ["", f"Written to {one_line(folder)}:", *_written(folder, result), ""]
    return "\n".join([*lines, *_next_commands(result, folder, steps)])


def _ending(result: TrainingResult, steps: int) -> str:
    done = f"{result.last_step} of {steps} steps"
    if result.first_step == result.last_step:
        return (
            f"This run has done {done} already. Train longer with --steps N, or begin anew with "
            "--overwrite."
        )
    return f"{_reason(result, done)}  {_speed(result)}"


def _reason(result: TrainingResult, done: str) -> str:
    why = (result.stopped_by or "").partition("early stopping: ")[2]
    if why:
        return f"Stopped early after {done}: {why}."
    if result.stopped_by:
        return f"Stopped by {result.stopped_by} after {done}."
    return f"Done: {done}."


def _speed(result: TrainingResult) -> str:
    return (
        f"{readable_time(result.seconds)} of training, {result.tokens_per_second:,.0f} tokens/s, "
        f"at most {readable(peak_bytes())} of memory."
    )


def _evaluation(metrics: Mapping[str, float]) -> str:
    text = f"{metrics['loss']:.4f} nats per token"
    if "perplexity" in metrics:
        text += f", perplexity {shown_perplexity(metrics['perplexity'])}"
    if "bits_per_byte" in metrics:
        text += f", {metrics['bits_per_byte']:.3f} bits per byte"
    return text


def _written(folder: Path, result: TrainingResult) -> list[str]:
    measured = result.best_step is not None
    known = {
        "best": f"the checkpoint with the lowest validation loss, of step {result.best_step}"
        if measured
        else "the newest checkpoint: no validation compared them",
        "last": "the newest checkpoint",
        "loss.png": "the loss curve",
        "log.jsonl": "loss, learning rate, gradient norm, validation",
        "timing.jsonl": "speed and memory",
        "config.toml": "the settings, for --config",
    }
    return [f"  {name:<13} {text}" for name, text in known.items() if (folder / name).exists()]


def _next_commands(result: TrainingResult, folder: Path, steps: int) -> list[str]:
    if result.last_step < steps and not (result.stopped_by or "").startswith("early"):
        return ["Go on with:", f"  {command('train', '--out', folder, '--resume')}"]
    best = "best" if (folder / "best").exists() else "last"
    return ["Next, let the model write:", f"  {command('generate', folder / best)}"]


def try_loss_curve(folder: Path, levels: Mapping[str, float]) -> str | None:
    """Draw ``loss.png``; returns why it was not drawn, or None."""
    try:
        draw_loss(folder, folder / "loss.png", levels)
    except (MissingDependencyError, DataError) as error:
        return f"(no loss.png: {error})"
    return None
