"""What pushes take for a SavedModel; they look at the bytes alone."""

from pathlib import Path


def saved_model(root: Path, content: bytes = b"graph", parts: int = 3) -> Path:
    """Writes the files of a SavedModel, which are other ones for other `content`."""
    (root / "variables").mkdir(parents=True)
    (root / "saved_model.pb").write_bytes(content)
    for part in range(parts):
        (root / "variables" / f"part-{part}").write_bytes(content * 1000)
    return root
