"""The session on a GPU: one stage that fails or hangs does not keep the others from running."""

import json
import sys
import time
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def session(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_session

    monkeypatch.setattr(gpu_session, "RESULTS", tmp_path / "results")
    yield gpu_session
    sys.modules.pop("gpu_session")


def stages(session, tmp_path):
    """One that passes and writes a row, one that fails, one that hangs with a child."""
    row = "import sys; print('done'); open(sys.argv[1] + '/rows.jsonl', 'a').write('{}\\n')"
    child = f"import time; time.sleep(6); open({str(tmp_path / 'late')!r}, 'w').close()"
    hang = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    return [
        session.Stage("hangs", 3, ("-c", hang)),
        session.Stage("fails", 60, ("-c", "raise SystemExit('a reason')")),
        session.Stage("passes", 60, ("-c", row, "OUT")),
    ]


def test_each_stage_is_on_its_own(session, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    (out / "rows.jsonl").write_text('{"old": 1}\n', encoding="utf-8")
    started = time.monotonic()
    # A stage needs 10 s to be begun; the test's own may be shorter.
    outcomes = session.run_all(stages(session, tmp_path)[1:], out, 300)
    outcomes.insert(0, session.run(stages(session, tmp_path)[0], out, 3))
    verdicts = {o.name: o.verdict for o in outcomes}
    assert verdicts == {"hangs": "stopped after 3 s", "fails": "status 1", "passes": "passed"}
    assert "a reason" in (out / "fails.log").read_text(encoding="utf-8")
    published = session.RESULTS / "rows.jsonl"
    assert published.read_text(encoding="utf-8") == "{}\n"  # only what is new
    logged = (out / "session.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["name"] for line in logged] == ["fails", "passes"]
    session.print_table(outcomes, out)
    assert "stopped after 3 s" in capsys.readouterr().out
    time.sleep(max(0.0, 8 - (time.monotonic() - started)))
    assert not (tmp_path / "late").exists()  # the child was ended too


def test_without_time_left_a_stage_is_not_begun(session, tmp_path):
    outcomes = session.run_all(stages(session, tmp_path), tmp_path, 15)
    assert [o.verdict for o in outcomes] == ["no time left"] * 3


def test_all_stages_are_files_or_modules_that_exist(session):
    for stage in session.STAGES:
        file = stage.command[0]
        assert file == "-m" or (session.ROOT / file).is_file()
    assert sum(s.seconds for s in session.STAGES[:5]) < 570  # what matters most is begun in time


def test_the_model_of_a_step_counts_what_formulas_say(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_model
    from train_sizes import Size

    layers, c, context, batch, v = 2, 32, 128, 5, 70
    work = gpu_model.count(Size(layers, 2, c, context, 1, v, 1), batch)
    rows = batch * context
    products = ("linear forward", "linear backward", "linear_cross_entropy forward")
    flops = sum(work[name].flops for name in products)
    assert flops == pytest.approx(6 * rows * (12 * layers * c * c + v * c))
    assert work["attention_qkv forward"].flops == pytest.approx(2 * layers * rows * context * c)
    assert work["gelu forward"].bytes == pytest.approx(layers * rows * 4 * c * 2 * 2)
    assert work["layer_norm forward"].calls == layers + 1
    for name in ("gpu_model", "train_sizes"):
        sys.modules.pop(name)
