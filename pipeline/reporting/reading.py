"""Reading the JSON files of artifacts, which may be missing or damaged when a page is drawn."""

import json
from pathlib import Path
from typing import Any

from pipeline.errors import DataError


def json_file(path: Path) -> Any:
    """Returns the content of a JSON file, or None where there is none.

    Raises:
        DataError: It is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(f"{path}: not JSON; run the component that writes it again") from None


def json_lines(path: Path) -> list[dict[str, Any]] | None:
    """Returns the objects of a JSONL file, or None where there is none.

    Raises:
        DataError: A line of it is not JSON.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]
    except FileNotFoundError:
        return None
    except ValueError:
        raise DataError(
            f"{path}: not JSON in each line; run the component that writes it again"
        ) from None
