"""What a Flink cluster is made of, fetched once into a folder of its own: Java archives.

    python -m tests.flink.downloads

The job server that Beam publishes is tried first. A repository that does not have it gives the runner
that it is made of, of another version; either speaks the same protocol with Python's Beam.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_POM = Path(__file__).parent / "job_server" / "pom.xml"
_SECONDS = 900
_WANTED = ("flink-dist-", "log4j-")


@dataclass(frozen=True)
class Distribution:
    """A version of Flink with a job server of Beam for it.

    Args:
        flink: The version of Flink.
        beam: That of the Java parts of Beam.
        published: Whether Beam's own job server is taken, or one is put together.
    """

    flink: str
    beam: str
    published: bool

    @property
    def minor(self) -> str:
        """The version of Flink as Beam names it."""
        return self.flink.rpartition(".")[0]

    @property
    def folder(self) -> Path:
        """Where it is kept."""
        root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(root, "keras_resnet", f"flink-{self.flink}-beam-{self.beam}")

    @property
    def jar(self) -> Path:
        """The job server."""
        return self.folder / f"beam-runners-flink-{self.minor}-job-server-{self.beam}.jar"

    @property
    def libraries(self) -> list[Path]:
        """The Java archives of Flink itself."""
        return sorted((self.folder / "lib").glob("*.jar"))


# In this order.
KNOWN = (
    Distribution("2.2.1", metadata.version("apache-beam"), published=True),
    Distribution("1.19.3", "2.62.0", published=False),
)


class MissingError(Exception):
    """Something that is needed is not there, and cannot be fetched."""


def missing() -> str:
    """Returns which programs are not there that have to be, nothing if all are."""
    absent = [name for name in ("java", "mvn") if shutil.which(name) is None]
    return f"{' and '.join(absent)} not on PATH" if absent else ""


def fetch() -> Distribution:
    """Returns a distribution that is there, fetched if need be.

    Raises:
        MissingError: None of those known can be had.
    """
    if absent := missing():
        raise MissingError(f"{absent}; install a Java 17 JDK and Maven")
    refusals = []
    for found in KNOWN:
        try:
            if not found.jar.is_file():
                _fetch_job_server(found)
            if not found.libraries:
                _fetch_flink(found)
        except MissingError as error:
            refusals.append(str(error))
        else:
            return found
    raise MissingError("; ".join(refusals))


def _fetch_job_server(wanted: Distribution) -> None:
    wanted.folder.mkdir(parents=True, exist_ok=True)
    if wanted.published:
        artifact = f"beam-runners-flink-{wanted.minor}-job-server"
        _maven(
            "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy",
            f"-Dartifact=org.apache.beam:{artifact}:{wanted.beam}",
            f"-DoutputDirectory={wanted.folder}",
        )
        return
    work = _empty(wanted.folder / "work")
    shutil.copy(_POM, work)
    _maven(
        *("-f", str(work / _POM.name), f"-Dflink={wanted.minor}", f"-Dbeam={wanted.beam}"),
        "package",
    )
    (work / "target" / "flink-job-server-1.jar").replace(wanted.jar)
    shutil.rmtree(work)


def _maven(*arguments: str) -> None:
    _run(["mvn", "-B", "-q", *arguments])


def _fetch_flink(wanted: Distribution) -> None:
    """Takes Flink's archives from its package on PyPI, which has them without its scripts."""
    work = _empty(wanted.folder / "work")
    name = f"apache-flink-libraries=={wanted.flink}"
    options = ("--quiet", "--no-deps", "--disable-pip-version-check", "--dest", str(work))
    _run([sys.executable, "-m", "pip", "download", *options, name])
    (package,) = work.iterdir()
    new = _empty(wanted.folder / "lib.new")
    _unpack(package, new)
    shutil.rmtree(work)
    new.replace(wanted.folder / "lib")


def _empty(folder: Path) -> Path:
    """Returns a folder, without what a call that was stopped left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _unpack(package: Path, folder: Path) -> None:
    """Unpacks what a cluster needs of `package`, a wheel or a source distribution, flat."""
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as archive:
            for entry in filter(_is_wanted, archive.namelist()):
                with archive.open(entry) as source, (folder / Path(entry).name).open("wb") as copy:
                    shutil.copyfileobj(source, copy)
        return
    with tarfile.open(package) as archive:
        for entry in archive:
            if entry.isfile() and _is_wanted(entry.name):
                content = archive.extractfile(entry)
                with (folder / Path(entry.name).name).open("wb") as copy:
                    shutil.copyfileobj(content, copy)


def _is_wanted(entry: str) -> bool:
    *folders, name = entry.split("/")
    return folders[-1:] == ["lib"] and name.startswith(_WANTED) and name.endswith(".jar")


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        said = next((line for line in lines if "ERROR" in line), lines[-1] if lines else "nothing")
        raise MissingError(f"{' '.join(command)}: exit status {done.returncode}: {said.strip()}")


if __name__ == "__main__":
    try:
        print(fetch().folder)
    except MissingError as error:
        sys.exit(f"error: {error}")
