"""Worker processes whose parent is killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

_KILLED = """
import os, time
from pipeline.beam import workers

pool = workers.start(1)
worker = pool.submit(os.getpid).result()
pool._processes_management_lock.acquire()
print(worker, flush=True)
time.sleep(60)
"""


def _runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_worker_ends_when_the_process_is_killed_that_began_it():
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED], stdout=subprocess.PIPE, text=True, env=os.environ
    )
    worker = int(process.stdout.readline())
    assert _runs(worker)
    process.kill()
    process.wait()
    end = time.monotonic() + 12
    while _runs(worker) and time.monotonic() < end:
        time.sleep(0.1)
    assert not _runs(worker)
