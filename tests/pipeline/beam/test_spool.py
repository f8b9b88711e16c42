"""The parts of a source wait in one file, of which a job knows offsets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.beam import spool


@given(parts=st.lists(st.one_of(st.text(), st.binary(), st.lists(st.integers())), max_size=20))
def test_each_part_is_found_again(tmp_path_factory, parts):
    folder = tmp_path_factory.mktemp("spool")
    places = spool.list_parts(folder, iter(parts))
    assert [spool.part(folder, place) for place in reversed(places)] == parts[::-1]


def test_a_second_list_is_not_written_over_the_first(tmp_path):
    spool.list_parts(tmp_path, ["one"])
    with pytest.raises(FileExistsError):
        spool.list_parts(tmp_path, ["two"])
