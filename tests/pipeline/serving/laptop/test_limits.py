"""What is refused before it costs memory or time."""

import asyncio
import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from pipeline.serving.laptop import limits
from pipeline.serving.laptop.limits import Budget, Limits, RefusedError


async def _chunks(*parts, pause=0.0):
    for part in parts:
        await asyncio.sleep(pause)
        yield part


def _read(budget, *parts, pause=0.0, **headers):
    async def read():
        async with budget.body(headers, _chunks(*parts, pause=pause)) as body:
            return bytes(body)

    return asyncio.run(read())


def test_a_body_is_read_up_to_its_limit_with_and_without_an_announced_length():
    budget = Budget(Limits(max_body=10))
    assert _read(budget, b"12345", b"67890") == b"1234567890"
    for headers, parts in (({"content-length": "11"}, ()), ({}, (b"12345", b"678901"))):
        with pytest.raises(RefusedError, match="at most 10") as refused:
            _read(budget, *parts, **headers)
        assert refused.value.status == 413
    assert _read(budget, b"x") == b"x"


def test_what_is_compressed_is_refused_as_nobody_knows_its_size():
    with pytest.raises(RefusedError) as refused:
        _read(Budget(Limits()), b"x", **{"content-encoding": "gzip"})
    assert refused.value.status == 415


def test_bodies_that_are_being_answered_have_a_limit_together():
    async def scenario():
        budget = Budget(Limits(max_body=10))
        full = [budget.body({}, _chunks(b"0123456789")) for _ in range(8)]
        for one in full:
            body = await one.__aenter__()
            body.clear()  # its room stays taken until it is answered
        with pytest.raises(RefusedError, match="too many large") as refused:
            async with budget.body({}, _chunks(b"x")):
                pass
        assert (refused.value.status, refused.value.retry_after) == (503, 1)
        await full[0].__aexit__(None, None, None)
        async with budget.body({}, _chunks(b"x")) as body:
            assert body == b"x"

    asyncio.run(scenario())


def test_a_slow_body_is_given_up_and_its_room_is_free(monkeypatch):
    monkeypatch.setattr(limits, "_PATIENCE", 0.5)
    monkeypatch.setattr(limits, "_SLOWEST", 1000)
    budget = Budget(Limits(max_body=1000))
    # 100 bytes each 60 ms keep pace with 1,000 bytes/s, 10 bytes do not.
    assert len(_read(budget, *[b"x" * 100] * 5, pause=0.06)) == 500
    with pytest.raises(RefusedError, match="bytes of the body came") as refused:
        _read(budget, *[b"x" * 10] * 50, pause=0.06)
    assert refused.value.status == 408
    assert budget._held == 0


def test_a_timeout_of_the_answer_is_not_one_of_the_body():
    async def scenario():
        async with Budget(Limits()).body({}, _chunks(b"x")):
            raise TimeoutError("of something else")

    with pytest.raises(TimeoutError, match="something else"):
        asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_pixels_are_those_of_the_header(kind):
    file = io.BytesIO()
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(file, kind)
    assert limits.pixels(file.getvalue()) == 1200
    assert limits.pixels(file.getvalue()[:20] + b"\0" * 9) in (0, 1200)


def test_what_is_no_image_has_no_pixels_and_a_bomb_has_all_of_them():
    for content in (b"", b"<html>", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"BM", b"RIFF1234WEBP"):
        assert limits.pixels(content) == 0
    header = b"IHDR" + struct.pack(">IIBBBBB", 65535, 65535, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n\0\0\0\r" + header + struct.pack(">I", zlib.crc32(header))
    assert limits.pixels(bomb + b"\0\0\0\0IDAT5\xaf\x06\x1e") > 100_000_000


@pytest.mark.parametrize(
    ("host", "origin", "is_answered"),
    [
        ("localhost:8501", None, True),
        ("127.0.0.1", None, True),
        ("[::1]:8501", None, True),
        ("LOCALHOST:1", None, True),
        ("localhost:8501", "http://localhost:8501", True),
        # DNS rebinding: another name that leads here.
        ("evil.example:8501", None, False),
        ("evil.example:8501", "http://evil.example:8501", False),
        ("localhost.evil.example", None, False),
        ("", None, False),
        ("[::1", None, False),
        # A page of another server, that only sends.
        ("localhost:8501", "https://evil.example", False),
        ("localhost:8501", "http://localhost:3000", False),
        ("localhost:8501", "null", False),
    ],
)
def test_on_this_machine_only_its_own_names_and_pages_are_answered(host, origin, is_answered):
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    allowed = limits.allowed_hosts("127.0.0.1")
    if is_answered:
        limits.check_origin(headers, allowed)
    else:
        with pytest.raises(RefusedError) as refused:
            limits.check_origin(headers, allowed)
        assert refused.value.status == 403


def test_where_others_may_ask_any_name_is_answered_and_foreign_pages_are_not():
    assert limits.allowed_hosts("0.0.0.0") is None
    assert "127.0.0.2" in limits.allowed_hosts("127.0.0.2")
    limits.check_origin({"host": "box.lan:8501", "origin": "http://box.lan:8501"}, None)
    with pytest.raises(RefusedError):
        limits.check_origin({"host": "box.lan:8501", "origin": "http://evil.example"}, None)
