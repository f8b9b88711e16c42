"""The page that a person sees in a browser: one file, without anything from elsewhere."""

import base64
import functools
import hashlib
import re
from importlib import resources


@functools.cache
def html() -> str:
    """Returns the page."""
    return (resources.files(__package__) / "page.html").read_text(encoding="utf-8")


@functools.cache
def policy() -> str:
    """Returns its Content-Security-Policy: its own script and style, and questions to its server."""
    script, style = (_hash(element) for element in ("script", "style"))
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src {script}",
            f"style-src {style}",
            "img-src blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )


def _hash(element: str) -> str:
    (content,) = re.findall(rf"<{element}>(.*?)</{element}>", html(), re.DOTALL)
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
