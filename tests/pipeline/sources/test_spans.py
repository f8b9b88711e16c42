import datetime

import pytest

from pipeline import sources
from pipeline.errors import UsageError
from pipeline.sources import spans
from tests.pipeline import builders
from tests.pipeline.sources import tree


@pytest.fixture(params=["path", "uri"])
def place(request, tmp_path):
    """Returns a function from a path below the folder to what a person gives."""
    return lambda path="": (tree.uri if request.param == "uri" else str)(f"{tmp_path}/{path}")


def _touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


def test_the_latest_span_and_its_latest_version_are_taken(tmp_path, place):
    _touch(
        tmp_path,
        *("span-2/v-3/x", "span-10/v-2/x", "span-10/v-11/x", "span-9/v-40/x"),
        *("span-x/v-1/x", "span-11/other/x", "other-12/v-1/x", ".span-13/v-1/x"),
    )
    pattern = place("span-{SPAN}/v-{VERSION}")
    name = tmp_path.name
    assert spans.resolve(pattern) == spans.Resolved(place("span-10/v-11"), 10, 11, name)
    assert spans.resolve(pattern, 9) == spans.Resolved(place("span-9/v-40"), 9, 40, name)
    with pytest.raises(UsageError, match=r"no span 8; the nearest of 3 are 2, 9, 10"):
        spans.resolve(pattern, 8)


def test_a_width_is_exact(tmp_path, place):
    _touch(tmp_path, "s03/x", "s004/x", "s5/x", "s12/x")
    assert spans.resolve(place("s{SPAN:2}")).path == place("s12")
    assert spans.resolve(place("s{SPAN:2}"), 3).path == place("s03")
    assert spans.resolve(place("s{SPAN:3}")).span == 4
    with pytest.raises(UsageError, match="no span 5"):
        spans.resolve(place("s{SPAN:2}"), 5)


def test_a_date_is_a_span_in_days(tmp_path, place):
    _touch(
        tmp_path,
        *("1970-01-02/a.csv", "2024-02-29/a.csv", "2024-02-30/a.csv", "2025-01-01/b.csv"),
    )
    found = spans.resolve(place("{YYYY}-{MM}-{DD}/a.csv"))
    days = (datetime.date(2024, 2, 29) - datetime.date(1970, 1, 1)).days
    assert (found.path, found.span, found.version) == (place("2024-02-29/a.csv"), days, 0)
    assert spans.resolve(place("{YYYY}-{MM}-{DD}/*.csv")).span == days + 307
    assert spans.resolve(place("{YYYY}-{MM}-{DD}/a.csv"), 1).path == place("1970-01-02/a.csv")


def test_placeholders_may_lie_deep_stand_twice_and_in_one_part(tmp_path, place):
    _touch(
        tmp_path,
        "2024/05/06/photos-20240506-v1.csv",
        "2024/05/07/photos-20240507-v2.csv",
        "2024/05/08/photos-20240509-v3.csv",
    )
    found = spans.resolve(place("{YYYY}/{MM}/{DD}/photos-{YYYY}{MM}{DD}-v{VERSION}.csv"))
    assert found.path == place("2024/05/07/photos-20240507-v2.csv")
    assert found.version == 2


def test_signs_of_regular_expressions_mean_themselves(tmp_path, place):
    _touch(tmp_path, "a+b(1)/x", "aab(2)/x")
    assert spans.resolve(place("a+b({SPAN})")).path == place("a+b(1)")


@pytest.mark.parametrize(
    ("pattern", "span", "message"),
    [
        ("photos", 3, r"span 3 was asked for, but the path holds no \{SPAN\}"),
        ("v-{VERSION}", None, r"\{VERSION\} needs \{SPAN\}"),
        ("{SPAN}/{YYYY}{MM}{DD}", None, r"holds \{SPAN\} and a date"),
        ("{YYYY}-{MM}", None, r"a date needs \{YYYY\}, \{MM\} and \{DD\}"),
        ("nothing-{SPAN}", None, "found no span"),
        ("missing/{SPAN}", None, "found no span"),
        ("s{SPAN}", None, r"s01 and .*s1 are the same span and version; give a width"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path, place, pattern, span, message):
    _touch(tmp_path, "s1/x", "s01/x", "file")
    with pytest.raises(UsageError, match=message):
        spans.resolve(place(pattern), span)


def test_other_braces_are_part_of_the_name(tmp_path, place):
    _touch(tmp_path, "{span}/x")
    assert spans.resolve(place("{span}")) == spans.Resolved(place("{span}"))


def test_a_relative_pattern_is_searched_where_we_are(tmp_path, monkeypatch):
    _touch(tmp_path, "7/x")
    monkeypatch.chdir(tmp_path)
    assert spans.resolve("{SPAN}") == spans.Resolved("7", 7, 0, "")
    assert spans.resolve("./{SPAN}").path == "./7"


def test_a_source_knows_its_span_and_keeps_its_name(tmp_path, place):
    for span, images in ((1, 1), (2, 3)):
        builders.image_folder(tmp_path / "pets" / f"span-{span}" / "v1", images=images)
    source = sources.open_source(place("pets/span-{SPAN}/v{VERSION}"))
    assert (source.name, source.span, source.version, source.total) == ("pets", 2, 1, 6)
    older = sources.open_source(place("pets/span-{SPAN}/v{VERSION}"), span=1)
    assert (older.name, older.span, older.total) == ("pets", 1, 2)
    assert older.digest() != source.digest()
    for data in ("digits", place("pets"), "tfds:cifar10"):
        with pytest.raises(UsageError, match="span 1 was asked for"):
            sources.open_source(data, span=1)
