"""An object store in memory, behind Beam's file systems, that fails when it is told to."""

import io
import random

from apache_beam.io.filesystem import BeamIOError, CompressionTypes, FileMetadata, FileSystem


class StoreError(Exception):
    """What the store raises when it fails."""


class Store:
    """The objects, and what goes wrong with them.

    Args:
        seed: Determines the order of listings.
    """

    def __init__(self, seed: int = 0):
        self.objects: dict[str, bytes] = {}
        self.random = random.Random(seed)
        self.log: list[tuple[str, str]] = []
        # The number of calls that still work, or None where all do.
        self.left: int | None = None
        # Whether a write that fails leaves the part that was sent. What is small is one request,
        # which is there or is not.
        self.cut = False
        self.on_write = lambda path: None

    def step(self, call: str, path: str) -> None:
        """Counts a call, and fails when it was one too many."""
        self.log.append((call, path))
        if self.left is not None:
            if self.left == 0:
                raise StoreError(f"the network is gone, {call} {path}")
            self.left -= 1

    def names(self) -> list[str]:
        """Returns the names of all objects below `objects://bucket/`, sorted."""
        return sorted(path.removeprefix("objects://bucket/") for path in self.objects)


STORE = Store()


class _Upload(io.BytesIO):
    """An object that is there when it is closed."""

    def __init__(self, path: str):
        super().__init__()
        self._path = path

    def write(self, content: bytes) -> int:
        try:
            STORE.step("write", self._path)
        except StoreError:
            if STORE.cut and not self._path.endswith((".json", ".config")):
                super().write(content[: len(content) // 2])
            else:
                self._path = None
            raise
        return super().write(content)

    def close(self) -> None:
        if not self.closed and self._path is not None:
            STORE.objects[self._path] = self.getvalue()
            STORE.on_write(self._path)
        super().close()


class ObjectStore(FileSystem):
    """`objects://bucket/name`; knows no folders, and nothing is renamed."""

    @classmethod
    def scheme(cls):
        return "objects"

    def join(self, basepath, *paths):
        return "/".join([basepath.rstrip("/"), *paths])

    def split(self, path):
        head, _, tail = path.rpartition("/")
        return head, tail

    def mkdirs(self, path):
        raise NotImplementedError

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        STORE.step("list", dir_or_prefix)
        found = [path for path in list(STORE.objects) if path.startswith(dir_or_prefix)]
        STORE.random.shuffle(found)
        return [FileMetadata(path, len(STORE.objects.get(path, b""))) for path in found]

    def create(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        return _Upload(path)

    def open(self, path, mime_type="", compression_type=CompressionTypes.AUTO):
        STORE.step("read", path)
        if path not in STORE.objects:
            raise BeamIOError(f"no object {path}")
        return io.BytesIO(STORE.objects[path])

    def copy(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def rename(self, source_file_names, destination_file_names):
        raise NotImplementedError

    def exists(self, path):
        return path in STORE.objects

    def size(self, path):
        return len(STORE.objects[path])

    def last_updated(self, path):
        return 0.0

    def checksum(self, path):
        raise NotImplementedError

    def metadata(self, path):
        return FileMetadata(path, self.size(path))

    def delete(self, paths):
        for path in paths:
            STORE.step("delete", path)
            del STORE.objects[path]
