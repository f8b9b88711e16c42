"""What codes mean, in words for whoever reads the dead letters."""

from pipeline.records.images import RULES

_REASONS = {
    "vanished": "was listed, and was not there any more when it was to be read",
    "unreadable": "is there and cannot be read: no permission, or no regular file",
    "empty": "has no byte",
    "too_many_bytes": f"has more than {RULES.max_bytes >> 20} MiB",
    "not_an_image": "is no JPEG, PNG, GIF, BMP or WebP, whatever its name says",
    "too_many_pixels": f"says that it has more than {RULES.max_pixels // 10**6} million pixels",
    "too_long": f"says that a side has more than {RULES.max_side:,} pixels",
    "not_decodable": "begins like an image, and is cut or damaged",
    "not_finite": "the model's answer is not a finite number",
    "not_an_example": "is no tf.train.Example",
    "no_image": "is an Example without image/encoded",
    "several_values": "is an Example with several values where one is expected",
    "record_damaged": "the record does not match its checksum",
    "shard_damaged": "the file of records is cut or damaged from here on",
    "malformed_row": "the row of the manifest does not fit its columns",
    "not_json": "the line of the manifest is no JSON object",
    "not_utf8": "the row of the manifest is not UTF-8",
    "no_path": "the row of the manifest names no file",
    "unknown_scheme": "nothing that is installed reads URIs of this scheme",
    "unknown_split": "the row of the manifest names a split that is none",
}


def of(code: str) -> str:
    """Returns what a code means; of one that a model made up, the code."""
    return _REASONS.get(code, code.replace("_", " "))
