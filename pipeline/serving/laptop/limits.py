"""What is refused before it costs memory or time: sizes, slow senders, foreign pages."""

import asyncio
import contextlib
import io
import warnings
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from pipeline.records import images
from pipeline.serving import configs

# All bodies together, in bodies of the greatest size.
_BODIES = 8
# A body has so many seconds, and one more for each so many bytes that have come.
_PATIENCE = 20.0
_SLOWEST = 64 << 10

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Limits:
    """How much the server takes on.

    Args:
        max_body: Bytes of the body of a request.
        max_pixels: Pixels of an image, and of all images that are decoded at once for a batch.
        max_instances: Rows of a request.
        max_batch: Rows that are computed at once.
        max_queue: Rows that may wait for one signature of a version.
        timeout: Seconds that an answer may take, from when the body has come.
    """

    max_body: int = 32 << 20
    max_pixels: int = images.RULES.max_pixels
    max_instances: int = 256
    max_batch: int = configs.MAX_BATCH
    max_queue: int = 1024
    timeout: float = 30.0


class RefusedError(Exception):
    """A request that is not answered as asked.

    Args:
        status: The HTTP status.
        message: What was found and what was expected.
        retry_after: Seconds after which it may be tried again.
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(message)
        self.status = status
        self.retry_after = retry_after


class Budget:
    """The bytes of all bodies that have come and are not answered yet.

    Args:
        limits: Give the size of one.
    """

    def __init__(self, limits: Limits):
        self._most_of_one = limits.max_body
        self._most = _BODIES * limits.max_body
        self._held = 0

    @contextlib.asynccontextmanager
    async def body(
        self, headers: Mapping[str, str], chunks: AsyncIterator[bytes]
    ) -> AsyncIterator[bytearray]:
        """Reads a body, and counts it until the block ends, even when it is cleared before.

        What has come counts, and not what was announced: who sends slowly takes no room from
        others.

        Args:
            headers: Of the request.
            chunks: What comes of its body.

        Raises:
            RefusedError: It is too large, too slow or compressed, or there is no room.
        """
        if headers.get("content-encoding", "identity") != "identity":
            raise RefusedError(415, "the body is compressed; send it without Content-Encoding")
        announced = headers.get("content-length")
        if announced is not None and int(announced) > self._most_of_one:
            raise self._too_large(f"{int(announced):,} bytes")
        body, held = bytearray(), 0
        try:
            try:
                await self._read(chunks, body)
            finally:
                held = len(body)
            yield body
        finally:
            self._held -= held

    async def _read(self, chunks: AsyncIterator[bytes], body: bytearray) -> None:
        began = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(_PATIENCE) as clock:
                async for chunk in chunks:
                    if len(body) + len(chunk) > self._most_of_one:
                        raise self._too_large("more than that")
                    if self._held + len(chunk) > self._most:
                        raise RefusedError(
                            503, "too many large requests at once; try again", retry_after=1
                        )
                    self._held += len(chunk)
                    body += chunk
                    clock.reschedule(began + _PATIENCE + len(body) / _SLOWEST)
        except TimeoutError:
            raise RefusedError(
                408,
                f"{len(body):,} bytes of the body came in time, and not all of them; expected "
                f"{_SLOWEST >> 10} KiB/s after the first {_PATIENCE:g} s",
            ) from None

    def _too_large(self, found: str) -> RefusedError:
        return RefusedError(
            413,
            f"the body has {found}; this server takes at most {self._most_of_one:,} (base64 makes "
            "files a third larger); send fewer or smaller images at once, or start it with a "
            "greater --max-body",
        )


def pixels(encoded: bytes) -> int:
    """Returns the pixels that the header of an image file speaks of; 0 where it is none.

    Nothing is decoded.
    """
    from PIL import Image

    try:
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(encoded), formats=images.FORMATS) as image,
        ):
            return image.width * image.height
    except Image.DecompressionBombError:
        return images.MOST_PIXELS
    # Readers raise whatever it may be on headers that are cut or altered; who decodes says what.
    except Exception:  # noqa: BLE001
        return 0


def is_loopback(host: str) -> bool:
    """Whether `host` reaches this machine alone."""
    return host in _LOOPBACK or host.startswith("127.")


def allowed_hosts(host: str) -> Collection[str] | None:
    """Returns the names by which the server may be called when it listens on `host`; None is any.

    A page of somebody else may give its own name the address 127.0.0.1, and would then be allowed
    to read what this server answers.
    """
    return {*_LOOPBACK, host} if is_loopback(host) else None


def check_origin(headers: Mapping[str, str], allowed: Collection[str] | None) -> None:
    """Refuses what pages of others make a browser send.

    Args:
        headers: Of the request.
        allowed: What `allowed_hosts` returned.

    Raises:
        RefusedError: The request is for another name, or comes from a page of another server.
    """
    host = headers.get("host", "")
    if allowed is not None and _name(f"//{host}") not in allowed:
        raise RefusedError(
            403,
            f"the request is for {host[:100]!r}, and this server answers as "
            f"{', '.join(sorted(allowed))} alone; --host lets others reach it",
        )
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != host:
        raise RefusedError(403, f"a page of {origin[:100]!r} asks; only pages of {host!r} may")


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
