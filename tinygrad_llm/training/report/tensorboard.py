"""TensorBoard events: the log's figures as curves, and histograms. Needs the package tensorboard.

tensorboard --logdir runs
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tinygrad_llm.errors import MissingDependencyError
from tinygrad_llm.hints import install
from tinygrad_llm.training.report.callback import Callback, Record

if TYPE_CHECKING:
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    from tinygrad_llm.training.loop_settings import TrainingResult
    from tinygrad_llm.training.trainer import Trainer


class TensorBoard(Callback):
    """Writes events into a folder.

    A resumed run writes a new file beside the old one; TensorBoard shows them as one run.

    Args:
        folder: the run's.

    Raises:
        MissingDependencyError: tensorboard is not installed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "tensorboard"
        self._proto = _import_proto()
        self._writer: EventFileWriter | None = None

    def on_start(self, trainer: Trainer) -> None:
        """Opens the file."""
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._writer = EventFileWriter(str(self.folder))
        if trainer.step:  # what an interrupted run wrote after its checkpoint is not shown
            session = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._add(trainer.step, session_log=session)

    def on_log(self, trainer: Trainer, record: Record, timing: Record) -> None:
        """Loss, learning rate, gradient norm, speed, memory."""
        self._scalars(record["step"], "train", record)
        self._scalars(record["step"], "machine", timing)

    def on_evaluation(self, trainer: Trainer, record: Record) -> None:
        """Validation figures."""
        self._scalars(record["step"], "validation", record)

    def on_end(self, trainer: Trainer, result: TrainingResult) -> None:
        """Closes the file."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def histogram(self, step: int, name: str, counts: np.ndarray, edges: np.ndarray) -> None:
        """A histogram: counts (n,) between edges (n + 1,)."""
        middles = (edges[1:] + edges[:-1]) / 2
        content = self._proto.HistogramProto(
            min=float(edges[0]),
            max=float(edges[-1]),
            num=float(counts.sum()),
            sum=float((counts * middles).sum()),
            sum_squares=float((counts * middles**2).sum()),
            bucket_limit=edges[1:].tolist(),
            bucket=counts.astype(float).tolist(),
        )
        summary = self._proto.Summary(value=[self._proto.Summary.Value(tag=name, histo=content)])
        self._add(step, summary=summary)

    def _scalars(self, step: float, group: str, record: Record) -> None:
        values = [
            self._proto.Summary.Value(tag=f"{group}/{name}", simple_value=float(value))
            for name, value in record.items()
            if name != "step"
        ]
        self._add(int(step), summary=self._proto.Summary(value=values))

    def _add(self, step: int, **content: object) -> None:
        import time

        if self._writer is not None:
            self._writer.add_event(self._proto.Event(wall_time=time.time(), step=step, **content))


def _import_proto() -> Any:
    """The messages of TensorBoard's file format, in one place."""
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2
    except ImportError:
        raise MissingDependencyError(
            f"--tensorboard needs TensorBoard: {install('tensorboard')}"
        ) from None

    class Proto:
        Event = event_pb2.Event
        SessionLog = event_pb2.SessionLog
        Summary = summary_pb2.Summary
        HistogramProto = summary_pb2.HistogramProto

    return Proto
