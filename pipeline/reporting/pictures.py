"""Small pictures for a page: from any image file, as far as it can be decoded, and from shards."""

import base64
import contextlib
import io
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.records import examples, tfrecord
from pipeline.records.manifest import Manifest, Split

SIDE = 144
TINY = 64
MAX_BYTES = 64 << 20
MAX_PIXELS = 64_000_000

_QUALITY = 72
# What a decoder fills in where nothing is left varies by less.
_NOISE = 8
# What Pillow may try. Not all that it knows: for some formats it starts other programs.
_FORMATS = ("BMP", "GIF", "ICO", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_SCANNED_BYTES = 1 << 30
_SCANNED_IMAGES = 2000

Fetch = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Args:
        source: A `data:` URL.
        width: Of the original, in pixels.
        height: Of the original, in pixels.
        partial: Whether only a part of the original could be decoded.
        tiny: Whether it is so small that its pixels are to be seen.
    """

    source: str
    width: int
    height: int
    partial: bool = False
    tiny: bool = False


@dataclass(frozen=True)
class Shown:
    """An image of the data set with its small picture."""

    name: str
    split: str
    thumbnail: Thumbnail | None


@dataclass
class Sample:
    """What a look into the shards found.

    Args:
        images: How many were looked at.
        shown: Of each class by its label, some images.
        sizes: How often each split, width and height was seen.
    """

    images: int = 0
    shown: dict[int, list[Shown]] = field(default_factory=dict)
    sizes: Counter[tuple[str, int, int]] = field(default_factory=Counter)


class Originals:
    """The small pictures of images of the source, each fetched once.

    Args:
        fetch: Returns the bytes of the image of that name, or None where there are none any more.
    """

    def __init__(self, fetch: Fetch):
        self._fetch = fetch
        self._known: dict[str, Thumbnail | None] = {}
        self.failure: str | None = None

    def __call__(self, name: str) -> Thumbnail | None:
        """Returns the small picture; none of what cannot be fetched or decoded.

        After `fetch` has failed once, as without a network, it is not asked again.
        """
        if name not in self._known and self.failure is None:
            try:
                self._known[name] = thumbnail(self._fetch(name))
            except PipelineError as error:
                self.failure = str(error)
        return self._known.get(name)


def thumbnail(encoded: bytes | None) -> Thumbnail | None:
    """Returns a small picture of an image file, upright, or None where nothing can be decoded.

    Args:
        encoded: Bytes of any kind; of a damaged image, what comes before the damage is drawn.
    """
    if not encoded or len(encoded) > MAX_BYTES:
        return None
    whole = _decoded(encoded)
    if whole is not None:
        return whole
    with _tolerant():
        return _decoded(encoded, partial=True)


def sample(
    root: Path,
    contents: Manifest,
    labels: int,
    each: int,
    *,
    most_bytes: int = _SCANNED_BYTES,
    least_images: int = _SCANNED_IMAGES,
) -> Sample:
    """Looks into the shards, the splits in turn, until there are enough images of each class.

    The order of records is that of their hashes, so that the first ones are a fair choice, and the
    same every time.

    Args:
        root: The Examples artifact.
        contents: Its manifest.
        labels: Classes of labels below this are shown.
        each: Images of each of them.
        most_bytes: Of very large data, this much of the shards is looked through.
        least_images: So many are looked at even if all classes are shown before.
    """
    found = Sample()
    present = sum((Counter(split.class_counts) for split in contents.splits.values()), Counter())
    missing = {
        label: min(each, present[text]) for label, text in enumerate(contents.classes[:labels])
    }
    wanted = sum(missing.values())
    size = 0
    for split, payload in _records(root, contents):
        if size >= most_bytes or (not wanted and found.images >= least_images):
            break
        size += len(payload)
        example = examples.parse(payload)
        found.images += 1
        found.sizes[split, example.width, example.height] += 1
        if missing.get(example.label):
            missing[example.label] -= 1
            wanted -= 1
            shown = Shown(example.filename, split, thumbnail(example.encoded))
            found.shown.setdefault(example.label, []).append(shown)
    return found


def _records(root: Path, contents: Manifest) -> Iterator[tuple[str, bytes]]:
    """Yields the records with the name of their split: one of each split in turn."""
    streams = [_of_split(root, name, split) for name, split in contents.splits.items()]
    for turn in zip_longest(*streams):
        yield from (record for record in turn if record is not None)


def _of_split(root: Path, name: str, split: Split) -> Iterator[tuple[str, bytes]]:
    for shard in split.shards:
        for payload in tfrecord.read(root / shard.file):
            yield name, payload


def _decoded(encoded: bytes, partial: bool = False) -> Thumbnail | None:
    from PIL import Image, ImageOps

    Image.init()  # knows all formats before it is asked for some
    try:
        # Pillow warns of what it tolerates; that is of no use on a page.
        with (
            warnings.catch_warnings(action="ignore"),
            Image.open(io.BytesIO(encoded), formats=_FORMATS) as image,
        ):
            width, height = image.size
            image.draft("RGB", (2 * SIDE, 2 * SIDE))
            if image.width * image.height > MAX_PIXELS:
                return None
            image.load()
            picture = ImageOps.exif_transpose(image)
            if picture.size != image.size:
                width, height = height, width
            picture = _opaque(picture)
            if partial and all(high - low < _NOISE for low, high in picture.getextrema()):
                return None  # nothing came before the damage
            picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
            buffer = io.BytesIO()
            if tiny := max(picture.size) <= TINY:
                picture.save(buffer, "PNG")
            else:
                picture.save(buffer, "JPEG", quality=_QUALITY)
    except Exception:  # noqa: BLE001  whatever a decoder makes of a broken file, it is no picture
        return None
    code = base64.b64encode(buffer.getvalue()).decode()
    kind = "png" if tiny else "jpeg"
    return Thumbnail(f"data:image/{kind};base64,{code}", width, height, partial, tiny)


def _opaque(picture):
    """Returns a picture of any mode as RGB, on white."""
    from PIL import Image

    if picture.mode.startswith("I;16"):
        # `convert` would clip 16 bits at 255.
        picture = picture.convert("I").point(lambda value: value / 256).convert("L")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert(
            "RGB"
        )
    return picture.convert("RGB")


@contextlib.contextmanager
def _tolerant() -> Iterator[None]:
    """Lets Pillow decode as far as it gets; it knows no way to say so for one image."""
    from PIL import ImageFile

    before = ImageFile.LOAD_TRUNCATED_IMAGES
    ImageFile.LOAD_TRUNCATED_IMAGES = True
    try:
        yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before
