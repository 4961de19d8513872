"""How many cores may be used: quotas of containers in made-up files, and a made-up Mac."""

import os
import sys

import pytest

from tinygrad_llm.backend import cores
from tinygrad_llm.commands import env

V2 = ["0::/pod/app"]
V1 = ["4:memory:/other", "3:cpu,cpuacct:/pod/app", "0::/"]


def process(tmp_path, groups, mounts):
    """A folder as /proc/self, and the tree of control groups that its mounts name."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "cgroup").write_text("\n".join(groups) + "\n")
    lines = ["21 1 0:20 / /proc rw - proc proc rw"]
    lines += [f"3{i} 1 0:2{i} {root} {at} rw shared:9 - {kind}" for i, (root, at, kind) in mounts]
    (folder / "mountinfo").write_text("\n".join(lines) + "\n")
    return folder


def write(folder, **files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("own", "above", "quota"),
    [
        ("150000 100000", "max 100000", 1.5),
        ("max 100000", "50000 100000", 0.5),  # the limit of the pod
        ("400000 100000", "300000 100000", 3.0),  # the smaller of two
        ("max 100000", "max 100000", None),
        (None, None, None),  # without the controller
    ],
)
def test_a_quota_of_version_2_in_the_group_or_above(tmp_path, own, above, quota):
    for folder, text in (("pod/app", own), ("pod", above)):
        if text is not None:
            write(tmp_path / "tree" / folder, cpu__max=text)
    mounts = [(1, ("/", tmp_path / "tree", "cgroup2 cgroup2 rw,nsdelegate"))]
    assert cores.cpu_quota(process(tmp_path, V2, mounts)) == quota


@pytest.mark.parametrize(("time", "quota"), [("250000", 2.5), ("-1", None)])
def test_a_quota_of_version_1(tmp_path, time, quota):
    write(tmp_path / "tree/pod", cpu__cfs_quota_us=time, cpu__cfs_period_us="100000")
    mounts = [
        (1, ("/", tmp_path / "memory", "cgroup cgroup rw,memory")),
        (2, ("/", tmp_path / "tree", "cgroup cgroup rw,cpu,cpuacct")),
    ]
    write(tmp_path / "memory/pod", cpu__max="10000 100000")  # of no group that limits time
    assert cores.cpu_quota(process(tmp_path, V1, mounts)) == quota


@pytest.mark.parametrize(("root", "group"), [("/pod/app", "."), ("/pod", "app"), ("/..", ".")])
def test_a_container_that_sees_a_group_as_the_root(tmp_path, root, group):
    write(tmp_path / "tree" / group, cpu__max="200000 100000")
    mounts = [(1, (root, tmp_path / "tree", "cgroup2 cgroup2 rw"))]
    assert cores.cpu_quota(process(tmp_path, V2, mounts)) == 2.0


@pytest.mark.parametrize("text", ["", "no colons", "0::/pod/app\nnonsense"])
def test_files_that_look_otherwise_limit_nothing(tmp_path, text):
    assert cores.cpu_quota(tmp_path / "absent") is None
    folder = process(tmp_path, [text], [(1, ("/", tmp_path / "tree", "cgroup2"))])
    assert cores.cpu_quota(folder) is None


@pytest.mark.parametrize(
    ("allowed", "quota", "usable"),
    [(16, 1.2, 2), (16, 0.2, 1), (16, 2.0, 2), (2, 8.0, 2), (3, None, 3)],
)
def test_a_part_of_a_core_counts_as_one(monkeypatch, allowed, quota, usable):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(cores, "allowed_cores", lambda: allowed)
    monkeypatch.setattr(cores, "cpu_quota", lambda: quota)
    assert cores.usable_cores() == usable


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a script stands in for Apple's command")
@pytest.mark.parametrize(
    ("knows", "usable"),
    [
        ({"hw.perflevel0.physicalcpu": 4, "hw.physicalcpu": 8}, 4),  # four of its eight are fast
        ({"hw.physicalcpu": 6}, 6),  # an Intel Mac: two threads a core
        ({}, 12),
    ],
)
def test_a_mac_computes_on_its_fast_cores(monkeypatch, tmp_path, knows, usable):
    cases = "".join(f"{name}) echo {n};; " for name, n in knows.items())
    script = tmp_path / "sysctl"
    script.write_text(f'#!/bin/sh\ncase "$2" in {cases}*) exit 1;; esac\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(cores, "allowed_cores", lambda: 12)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    assert cores.usable_cores() == usable


def test_env_tells_cores_and_quota_apart(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(cores, "allowed_cores", lambda: 8)
    monkeypatch.setattr(cores, "cpu_quota", lambda: None)
    assert env.report()["machine"]["cores"] == "8 usable of 16"
    monkeypatch.setattr(cores, "cpu_quota", lambda: 1.5)
    shown = env.report()["machine"]["cores"]
    assert shown == "8 usable of 16; a quota of 1.5 cores' time (container)"
