"""Every reason that the documentation names is explained on the page."""

import re
from pathlib import Path

from pipeline.reporting import explanations

_DOCS = Path(__file__).parents[3] / "docs" / "data.md"


def test_every_documented_reason_is_explained():
    table = _DOCS.read_text().partition("| reason |")[2].partition("\n\n")[0]
    codes = [
        code.replace("…", "tiff")
        for row in table.splitlines()[2:]
        for code in re.findall(r"`([a-z_]+…?)`", row.split("|")[1])
    ]
    assert len(codes) > 20
    nothing = explanations.explain("no such reason")
    assert [code for code in codes if explanations.explain(code) == nothing] == []
