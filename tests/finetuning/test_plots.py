"""Pictures of fine-tuning show what was computed."""

import numpy as np
import pytest

from tinygrad_llm.finetuning import plots
from tinygrad_llm.finetuning.metrics import score, threshold_curve

LABELS = np.array([0, 0, 1, 0, 1, 1, 0, 1])
CHANCES = np.array([0.05, 0.2, 0.3, 0.35, 0.5, 0.7, 0.75, 0.9])


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Draws thresholds; returns the two panels."""
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, target: figures.append(figure))

    def draw(chosen):
        plots.draw_thresholds(threshold_curve(LABELS, CHANCES), chosen, tmp_path / "x.png", "")
        return figures[-1].axes

    return draw


def value_at(line, x):
    """The height of a curve of steps that are drawn before their points."""
    assert line.get_drawstyle() == "steps-pre"
    return line.get_ydata()[np.searchsorted(line.get_xdata(), x)]


@pytest.mark.parametrize("chosen", [0.02, 0.25, 0.31, 0.42, 0.6, 0.8])
def test_the_chosen_line_meets_the_f1_that_it_gives(drawn, chosen):
    pytest.importorskip("matplotlib")
    left, right = drawn(chosen)
    reached = score(LABELS, (chosen <= CHANCES).astype(int))
    lines = {line.get_label(): line for line in left.lines}
    at = lines["chosen"].get_xdata()[0]
    for name in ("precision", "recall", "F1"):
        assert value_at(lines[name], at) == pytest.approx(getattr(reached, name.lower()))
    assert left.lines[-1].get_ydata()[0] == pytest.approx(reached.f1)
    point = right.lines[-1].get_xydata()[0]
    np.testing.assert_allclose(point, [reached.recall, reached.precision])


def test_a_threshold_above_all_scores_has_no_point(drawn):
    pytest.importorskip("matplotlib")
    left, right = drawn(0.95)
    assert (len(left.lines), len(right.lines)) == (4, 1)
