import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.records import tfrecord

_PAYLOADS = [b"first", b"", b"\x00" * 40, "dritter ä".encode()]


@given(st.lists(st.binary(max_size=200), max_size=8))
def test_what_is_written_is_what_tensorflow_writes_and_reads(tmp_path_factory, payloads):
    folder = tmp_path_factory.mktemp("records")
    ours, theirs = folder / "ours", folder / "theirs"
    summary = tfrecord.write(ours, payloads)
    with tf.io.TFRecordWriter(str(theirs)) as writer:
        for payload in payloads:
            writer.write(payload)

    assert ours.read_bytes() == theirs.read_bytes()
    assert list(tfrecord.read(ours)) == payloads
    assert summary == tfrecord.summarize(ours)
    assert (summary.records, summary.bytes) == (len(payloads), ours.stat().st_size)


def test_a_cut_is_noticed_at_every_byte_but_those_between_records(tmp_path):
    path = tmp_path / "shard"
    tfrecord.write(path, _PAYLOADS)
    whole = path.read_bytes()
    ends, position = {0}, 0
    for payload in _PAYLOADS:
        position += 16 + len(payload)
        ends.add(position)

    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        if length in ends:
            # Nothing in the file can tell; the manifest does.
            assert tfrecord.summarize(path).bytes == length
        else:
            with pytest.raises(DataError, match=r"shard: record \d at byte \d+ is damaged"):
                tfrecord.summarize(path)


def test_a_flipped_bit_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "shard"
    tfrecord.write(path, _PAYLOADS)
    whole = path.read_bytes()

    for index in range(len(whole)):
        path.write_bytes(whole[:index] + bytes([whole[index] ^ 1]) + whole[index + 1 :])
        with pytest.raises(DataError):
            tfrecord.summarize(path)


def test_records_are_found_by_their_headers_alone(tmp_path):
    path = tmp_path / "shard"
    tfrecord.write(path, _PAYLOADS)
    whole = path.read_bytes()
    with path.open("rb") as file:
        expected = [record.offset for record in tfrecord.records(file, path)]
    with path.open("rb") as file:
        assert list(tfrecord.offsets(file, len(whole), path)) == expected
    for index, offset in enumerate(expected):
        with path.open("rb") as file:
            file.seek(offset)
            found = [record.payload for record in tfrecord.records(file, path, index, offset)]
        assert found == _PAYLOADS[index:]

    for length in set(range(len(whole))) - {0, *expected}:
        path.write_bytes(whole[:length])
        with path.open("rb") as file, pytest.raises(tfrecord.DamageError, match=r"record \d at"):
            list(tfrecord.offsets(file, length, path))


def test_a_payload_that_is_altered_hides_nothing_behind_it(tmp_path):
    path = tmp_path / "shard"
    tfrecord.write(path, _PAYLOADS)
    content = bytearray(path.read_bytes())
    content[12] ^= 1
    path.write_bytes(content)
    with path.open("rb") as file:
        found = list(tfrecord.records(file, path))
    assert [record.intact for record in found] == [False, True, True, True]
    assert [record.payload for record in found[1:]] == _PAYLOADS[1:]


def test_a_file_is_never_overwritten(tmp_path):
    tfrecord.write(tmp_path / "shard", [b"x"])
    with pytest.raises(FileExistsError):
        tfrecord.write(tmp_path / "shard", [b"y"])
