"""The session on a GPU: what fails or hangs costs no other its rows, and nothing is lost."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def session(monkeypatch):
    """gpu_session.py with archives every half second."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu_session

    monkeypatch.setattr(gpu_session, "EVERY", 0.5)
    yield gpu_session
    for name in [
        n
        for n, m in list(sys.modules.items())
        if str(getattr(m, "__file__", "")).startswith(str(BENCHMARKS))
    ]:
        del sys.modules[name]


@pytest.fixture
def files(session, tmp_path):
    return session.Files(tmp_path / "out", tmp_path / "work", tmp_path / "results")


def packed(archive):
    """Name -> content of what the archive holds."""
    with tarfile.open(archive) as found:
        return {
            Path(m.name).name: found.extractfile(m).read().decode(errors="replace")
            for m in found.getmembers()
        }


def stages(session, tmp_path):
    """One that hangs with a child, one that fails, one that passes and writes a row."""
    row = "import sys; print('done'); open(sys.argv[1] + '/rows.jsonl', 'a').write('{}\\n')"
    child = f"import time; time.sleep(3); open({str(tmp_path / 'late')!r}, 'w').close()"
    hang = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    return [
        session.Stage("hangs", 1, 1, ("-c", hang)),
        session.Stage("fails", 60, 60, ("-c", "raise SystemExit('a reason')")),
        session.Stage("passes", 60, 60, ("-c", row, "WORK")),
    ]


def test_each_stage_is_on_its_own(session, files, tmp_path, capsys):
    (files.work / "rows.jsonl").write_text('{"old": 1}\n', encoding="utf-8")
    files.publish()
    started = time.monotonic()
    # A stage needs 10 s to be begun; the test's own may be shorter.
    first = session.run(stages(session, tmp_path)[0], files, 1)
    outcomes = [first, *session.run_all(stages(session, tmp_path)[1:], files, 300)]
    verdicts = {o.name: o.verdict for o in outcomes}
    assert verdicts == {"hangs": "stopped after 1 s", "fails": "status 1", "passes": "passed"}
    found = packed(files.archive)
    assert "a reason" in found["fails.log"]
    assert found["rows.jsonl"] == '{"old": 1}\n{}\n'
    assert (files.results / "rows.jsonl").read_text(encoding="utf-8") == '{"old": 1}\n{}\n'
    assert files.passed() == {"passes"}
    session.report(files)
    assert "passes" in capsys.readouterr().out
    assert sorted(path.name for path in files.out.iterdir()) == ["session.tgz", "table.txt"]
    time.sleep(max(0.0, 4 - (time.monotonic() - started)))
    assert not (tmp_path / "late").exists()  # the child was ended too


def test_without_time_left_a_stage_is_not_begun(session, files, tmp_path):
    outcomes = session.run_all(stages(session, tmp_path), files, 15)
    assert [o.verdict for o in outcomes] == ["no time left"] * 3


@pytest.mark.parametrize(("minutes", "begun"), [(4, 4), (9.5, 10)])
def test_whoever_hangs_leaves_the_others_their_shares(session, minutes, begun):
    stages, left = list(session.STAGES), 60 * minutes - session.MARGIN
    for i, stage in enumerate(stages[:begun]):
        seconds = session.limit(stages[i:], left)
        assert stage.share <= seconds <= stage.seconds
        left -= seconds  # the worst: each takes all that it may
    assert left >= 0


def test_stages_are_files_or_modules_that_exist_and_say_little(session):
    for stage in session.STAGES:
        file = stage.command[0]
        assert file == "-m" or (session.ROOT / file).is_file()
    from session_files import TABLE

    lines = sum(len(" ".join(stage.command)) + 80 for stage in session.STAGES)
    assert len(session.STAGES) * session.SHOWN + lines + TABLE < 12_000


def test_a_file_that_cannot_be_imported_costs_no_other_its_tests(session, tmp_path):
    """Such as one that needs a library which the rented machine has not."""
    (tmp_path / "test_a.py").write_text("import no_such_library", encoding="utf-8")
    (tmp_path / "test_b.py").write_text(
        "import pytest\n@pytest.mark.gpu\ndef test_b(): pass", encoding="utf-8"
    )
    options = [o for o in session.TESTS[:-1] if o not in ("-n", "12", "--max-worker-restart", "50")]
    command = [sys.executable, *options, "-o", "markers=gpu", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, encoding="utf-8", capture_output=True)
    assert "1 passed, 1 error" in done.stdout, done.stdout
    assert done.returncode


def test_the_checklist_names_the_stages_and_their_limits(session):
    text = (ROOT / "docs" / "gpu_checklist.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| (\w+) \| .* \| (\d+) s \|$", text, re.MULTILINE)
    assert named == [(stage.name, str(stage.seconds)) for stage in session.STAGES]


def test_the_archive_is_whole_while_a_stage_writes_and_when_the_session_is_killed(tmp_path):
    """kill -9 in the middle: the archive opens, with what was there half a second before."""
    script = f"""
import sys, time; sys.path.insert(0, {str(BENCHMARKS)!r})
import gpu_session as s
from pathlib import Path
s.EVERY = 0.2
files = s.Files(Path("out").absolute(), Path("work").absolute(), Path("results"))
print_row = "import sys; open(sys.argv[1] + '/rows.jsonl', 'a').write('1\\\\n'); print('row')"
forever = "import time\\nwhile True: print('x' * 10000, flush=True); time.sleep(0.01)"
s.run_all([s.Stage("one", 60, 20, ("-c", print_row, "WORK")),
           s.Stage("two", 60, 20, ("-c", forever))], files, 120)
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    archive = tmp_path / "out" / "session.tgz"
    try:
        wait_for(lambda: archive.exists() and "xxx" in packed(archive).get("two.log", ""))
    finally:
        process.kill()
        process.wait()
        end_orphans(str(tmp_path / "work"), "while True: print('x' * 10000")
    found = packed(archive)
    assert found["rows.jsonl"] == "1\n"
    assert json.loads(found["session.jsonl"])["verdict"] == "passed"


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def end_orphans(*marks):
    """End the processes whose session was killed, which have one of these texts in their line."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if any(mark in line for mark in marks) and int(folder.name) != os.getpid():
            os.killpg(int(folder.name), signal.SIGKILL)


def test_an_archive_that_cannot_be_written_is_said_and_costs_nothing(session, tmp_path, capsys):
    (tmp_path / "out").write_text("a file where the folder should be", encoding="utf-8")
    files = session.Files(tmp_path / "out", tmp_path / "work", tmp_path / "out" / "results")
    outcomes = session.run_all(stages(session, tmp_path)[2:], files, 300)
    session.report(files)
    assert [o.verdict for o in outcomes] == ["passed"]
    assert "session.tgz is not written" in capsys.readouterr().out
    assert (files.work / "rows.jsonl").read_text(encoding="utf-8") == "{}\n"


def test_a_second_call_goes_on_where_the_first_ended(session, files, tmp_path):
    session.run_all(stages(session, tmp_path)[1:], files, 300)
    (files.work / "tuned").mkdir()
    (files.work / "tuned" / "gpu.json").write_text("{}", encoding="utf-8")
    files.pack()
    shutil.rmtree(files.work)  # another machine, to which only the archive was brought
    again = session.Files(files.out, files.work, files.results)
    assert again.passed() == {"passes"}
    assert (again.work / "tuned" / "gpu.json").exists()
    again.publish()  # what was published then is not published twice
    assert (files.results / "rows.jsonl").read_text(encoding="utf-8") == "{}\n"


CUPY = """
broken = []
class cuda:
    class runtime:
        class CUDARuntimeError(RuntimeError): pass
        def deviceSynchronize():
            if broken: raise cuda.runtime.CUDARuntimeError("an illegal memory access")
"""
GPU_TESTS = """
import pytest, cupy
pytestmark = pytest.mark.gpu
def test_a(): pass
def test_breaks(): cupy.broken.append(1)
def test_b(): pass
def test_c(): cupy.cuda.runtime.deviceSynchronize()
"""


@pytest.mark.parametrize("more", [[], pytest.param(["-n", "1"], marks=pytest.mark.slow)])
def test_a_test_that_breaks_the_device_fails_alone(tmp_path, more):
    """Under pytest-xdist: another worker goes on with the next test. Without: the run ends."""
    (tmp_path / "test_it.py").write_text(GPU_TESTS, encoding="utf-8")
    (tmp_path / "cupy.py").write_text(CUPY, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(
        (ROOT / "tests" / "conftest.py").read_text(encoding="utf-8"), encoding="utf-8"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n gpu", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    own_environment = {k: v for k, v in os.environ.items() if k != "PYTEST_XDIST_WORKER"}
    done = subprocess.run(
        [*command, *more],
        cwd=tmp_path,
        encoding="utf-8",
        capture_output=True,
        env={**own_environment, "PYTHONPATH": str(tmp_path)},
    )
    if more:
        # a, b and c; and test_breaks itself, if its report arrived before its worker ended
        assert re.search("1 failed, [34] passed", done.stdout), done.stdout
        assert "test_it.py::test_breaks" in done.stdout
    else:
        assert done.returncode == 13
        assert "test_breaks: an illegal memory access; the device is broken" in done.stdout
