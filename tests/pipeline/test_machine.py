"""Cores, memory and GPUs, on file systems and programs made up for it."""

import os
from pathlib import Path

import pytest

from pipeline import machine

_MEMINFO = "MemTotal:       16777216 kB\nMemFree:          100 kB\nMemAvailable:    8388608 kB\n"
_GIB = 1 << 30


def tree(root: Path, **files: str) -> Path:
    """Writes files whose paths have `__` in place of `/`."""
    for name, content in files.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_without_limits_it_is_what_the_machine_has(tmp_path):
    root = tree(tmp_path, proc__meminfo=_MEMINFO, proc__self__cgroup="0::/\n")
    assert machine.memory(root) == machine.Memory(16 * _GIB, 8 * _GIB, None)
    cores = machine.cores(root)
    assert cores.quota is None
    assert cores.usable == cores.allowed == len(os.sched_getaffinity(0))


@pytest.mark.parametrize("inside", ["/", "/outside/of/the/container"])
def test_the_limits_of_control_groups_of_version_2_hold(tmp_path, inside):
    root = tree(
        tmp_path,
        proc__meminfo=_MEMINFO,
        proc__self__cgroup=f"0::{inside}\n",
        sys__fs__cgroup__memory_dot_max=f"{4 * _GIB}\n",
        sys__fs__cgroup__memory_dot_current=f"{3 * _GIB}\n",
        sys__fs__cgroup__cpu_dot_max="150000 100000\n",
    )
    assert machine.memory(root) == machine.Memory(16 * _GIB, 1 * _GIB, 4 * _GIB)
    cores = machine.cores(root)
    assert cores.quota == 1.5
    assert cores.usable == 1


def test_the_least_of_the_limits_of_all_groups_above_holds(tmp_path):
    root = tree(
        tmp_path,
        proc__meminfo=_MEMINFO,
        proc__self__cgroup="0::/user/job\n",
        sys__fs__cgroup__user__job__memory_dot_max="max\n",
        sys__fs__cgroup__user__memory_dot_max=f"{2 * _GIB}\n",
        sys__fs__cgroup__user__job__cpu_dot_max="max 100000\n",
        sys__fs__cgroup__user__cpu_dot_max="50000 100000\n",
    )
    assert machine.memory(root).limit == 2 * _GIB
    assert machine.cores(root).quota == 0.5
    assert machine.cores(root).usable == 1


def test_the_limits_of_control_groups_of_version_1_hold(tmp_path):
    root = tree(
        tmp_path,
        proc__meminfo=_MEMINFO,
        proc__self__cgroup="5:memory:/docker/1\n4:cpu,cpuacct:/docker/1\n",
        sys__fs__cgroup__memory__memory_dot_limit_in_bytes=f"{8 * _GIB}\n",
        sys__fs__cgroup__memory__memory_dot_usage_in_bytes=f"{2 * _GIB}\n",
        sys__fs__cgroup__cpu__cpu_dot_cfs_quota_us="200000\n",
        sys__fs__cgroup__cpu__cpu_dot_cfs_period_us="100000\n",
    )
    assert machine.memory(root) == machine.Memory(16 * _GIB, 6 * _GIB, 8 * _GIB)
    assert machine.cores(root).quota == 2.0
    endless = "sys/fs/cgroup/memory/memory.limit_in_bytes"
    (root / endless).write_text(f"{(1 << 63) - 4096}\n")
    assert machine.memory(root).limit is None


def test_systems_that_tell_nothing_break_nothing(tmp_path):
    assert machine.memory(tmp_path) is None
    assert machine.cores(tmp_path).usable >= 1
    assert machine.processor(tmp_path)[1] == frozenset()
    assert machine.gpu_files(tmp_path) == []


def test_the_processor_is_named_with_its_instructions(tmp_path):
    root = tree(tmp_path, proc__cpuinfo="model name\t: Fast 3000\nflags\t\t: sse avx\n")
    assert machine.processor(root) == ("Fast 3000", {"sse", "avx"})


def program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_gpus_are_those_of_nvidias_program(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine.gpus() == []
    program(
        tmp_path,
        "nvidia-smi",
        "echo 'NVIDIA, big, 143771, 512, 570.1'; echo 'Tiny, [N/A], 0, 570.1'",
    )
    assert machine.gpus() == [
        machine.Gpu("NVIDIA, big", 143771, 512, "570.1"),
        machine.Gpu("Tiny", 0, 0, "570.1"),
    ]
    program(tmp_path, "nvidia-smi", "echo failed; exit 9")
    assert machine.gpus() == []


def test_a_docker_without_a_daemon_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not machine.docker_answers()
    program(tmp_path, "docker", "exit 1")
    assert not machine.docker_answers()
    program(tmp_path, "docker", "echo 28.0")
    assert machine.docker_answers()
