"""What this machine gives to a process: cores, memory, disk, GPUs; within a container its limits."""

import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/")
# Above this a limit of version 1 of the control groups stands for none.
_UNLIMITED = 1 << 60
_NVIDIA_QUERY = ("name", "memory.total", "memory.used", "driver_version")
_PATIENCE = 10.0


@dataclass(frozen=True)
class Cores:
    """Processor cores.

    Attributes:
        present: Of the machine.
        allowed: That the process may run on (its affinity).
        quota: Cores' worth of time that its control groups grant; None for no limit.
    """

    present: int
    allowed: int
    quota: float | None

    @property
    def usable(self) -> int:
        """Threads that can really run at once, at least 1."""
        return max(1, min(self.allowed, int(self.quota or self.allowed)))


@dataclass(frozen=True)
class Memory:
    """Memory in bytes.

    Attributes:
        total: Of the machine.
        available: That could be used now without swapping, within the limit.
        limit: Of the process's control groups; None for no limit.
    """

    total: int
    available: int
    limit: int | None


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVIDIA's driver sees it, whether TensorFlow can use it or not.

    Attributes:
        name: Of the device.
        memory: MiB.
        used: MiB of it that are taken now.
        driver: Version of the driver.
    """

    name: str
    memory: int
    used: int
    driver: str


def cores(root: Path = _ROOT) -> Cores:
    """Returns the cores; `root` is where the file system begins."""
    present = os.cpu_count() or 1
    # Systems other than Linux have no affinity.
    affinity = getattr(os, "sched_getaffinity", None)
    quotas = []
    for folder in _groups(root, "cpu"):
        if text := _read(folder / "cpu.max"):
            quota, period = text.split()
            if quota != "max":
                quotas.append(int(quota) / int(period))
        quota, period = _read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us")
        if quota and period and int(quota) > 0:
            quotas.append(int(quota) / int(period))
    return Cores(present, len(affinity(0)) if affinity else present, min(quotas, default=None))


def memory(root: Path = _ROOT) -> Memory | None:
    """Returns the memory, or None where the system does not tell."""
    found = dict(re.findall(r"^(\w+): +(\d+) kB", _read(root / "proc/meminfo") or "", re.MULTILINE))
    if "MemTotal" not in found:
        return None
    total = int(found["MemTotal"]) << 10
    available = int(found.get("MemAvailable", found["MemTotal"])) << 10
    limits = []
    for folder in _groups(root, "memory"):
        for limit, used in (
            ("memory.max", "memory.current"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes"),
        ):
            text = _read(folder / limit)
            if text and text != "max" and int(text) < min(_UNLIMITED, total):
                limits.append(int(text))
                available = min(available, int(text) - int(_read(folder / used) or 0))
    return Memory(total, max(0, available), min(limits, default=None))


def processor(root: Path = _ROOT) -> tuple[str, frozenset[str]]:
    """Returns the name of the processor and its instruction sets, as Linux calls them."""
    text = _read(root / "proc/cpuinfo") or ""
    name = re.search(r"^(?:model name|Model)\s*: (.+)$", text, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*: (.+)$", text, re.MULTILINE)
    return (
        name[1] if name else platform.processor() or platform.machine(),
        frozenset(flags[1].split() if flags else ()),
    )


def free_disk(directory: Path) -> int:
    """Returns the bytes that are free where `directory` is or would be made."""
    nearest = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    return shutil.disk_usage(nearest).free


def gpus() -> list[Gpu]:
    """Returns the GPUs that NVIDIA's driver reports; none where its program is not there."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = f"--query-gpu={','.join(_NVIDIA_QUERY)}"
    try:
        done = subprocess.run(
            [program, query, "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=True,
            timeout=_PATIENCE,
        )
    except (OSError, subprocess.SubprocessError):
        return []  # a driver that does not answer is as good as none, and its devices show it
    return [_gpu(line) for line in done.stdout.splitlines() if line.count(",") >= 3]


def docker_answers() -> bool:
    """Whether Docker's client is there and reaches a daemon."""
    command = ["docker", "version", "--format", "{{.Server.Version}}"]
    try:
        subprocess.run(command, capture_output=True, check=True, timeout=_PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


def gpu_files(root: Path = _ROOT) -> list[str]:
    """Returns the device files of NVIDIA GPUs, which are there when the driver is loaded."""
    return sorted(str(path) for path in (root / "dev").glob("nvidia[0-9]*"))


def _gpu(line: str) -> Gpu:
    name, total, used, driver = (part.strip() for part in line.rsplit(",", 3))
    return Gpu(name, _mebibytes(total), _mebibytes(used), driver)


def _mebibytes(text: str) -> int:
    """Returns a number of nvidia-smi, which says `[N/A]` of memory that is shared with the CPU."""
    return int(text) if text.isdigit() else 0


def _groups(root: Path, controller: str) -> list[Path]:
    """Returns the folders of the process's control groups and of all above them.

    In a container the path that the kernel names may be that outside of it, where nothing is; its
    own group is then at the top.
    """
    folders = []
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            top = root / "sys/fs/cgroup"
        elif controller in controllers.split(","):
            top = root / "sys/fs/cgroup" / controller
        else:
            continue
        folder = top / path.lstrip("/")
        while folder != top:
            folders.append(folder)
            folder = folder.parent
        folders.append(top)
    return folders


def _read(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None
