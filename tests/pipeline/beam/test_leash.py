"""What must not outlive its parent does not, and is otherwise left alone."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

LEASH = [sys.executable, "-m", "pipeline.beam.leash"]

# Starts a command on a leash, tells its process, and waits to be killed.
PARENT = """
import subprocess, sys, time
subprocess.Popen(sys.argv[1:])
time.sleep(60)
"""
CHILD = "import os, sys, time; print(os.getpid(), flush=True); time.sleep(60)"


def gone(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")
def test_it_ends_when_its_parent_is_killed():
    command = [sys.executable, "-c", PARENT, *LEASH, sys.executable, "-c", CHILD]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert not gone(child)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 20
    while not gone(child):
        assert time.monotonic() < end, "still there after 20 s"
        time.sleep(0.1)
    parent.stdout.close()


def test_its_status_is_that_of_the_command():
    done = subprocess.run([*LEASH, sys.executable, "-c", "raise SystemExit(7)"], check=False)
    assert done.returncode == 7


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(number):
    taken = f"""
import os, signal, sys, time
signal.signal({int(number)}, lambda number, frame: sys.exit(9))
{CHILD}
"""
    leash = subprocess.Popen(
        [*LEASH, sys.executable, "-c", taken], stdout=subprocess.PIPE, text=True
    )
    assert int(leash.stdout.readline()) != leash.pid
    os.kill(leash.pid, number)
    assert leash.wait(20) == 9
    leash.stdout.close()


def test_who_does_not_end_when_asked_to_is_ended():
    deaf = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {CHILD}"
    leash = subprocess.Popen(
        [*LEASH, sys.executable, "-c", deaf], stdout=subprocess.PIPE, text=True
    )
    child = int(leash.stdout.readline())
    # As Beam asks, which would then kill the leash itself.
    os.kill(leash.pid, signal.SIGINT)
    assert leash.wait(20) != 0
    assert gone(child)
    leash.stdout.close()
