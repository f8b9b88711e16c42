from pipeline import sources
from pipeline.records import images
from tests.pipeline.sources.reading import everything, references


def test_the_digits_are_all_there_and_readable():
    source = sources.open_source("digits")
    assert source.total == len(references(source)) == 1797
    assert source.classes == tuple("0123456789")
    assert (source.splits, source.span, source.version, source.damaged) == ((), 0, 0, ())
    _, encoded = next(source.read(source.parts[17]))
    image = images.normalize(encoded)
    assert (image.format, image.height, image.width, image.converted) == ("png", 8, 8, False)


def test_one_digit_is_fetched_by_its_name():
    reference, encoded = everything(sources.open_source("digits"))[1234]
    assert sources.fetch("digits", reference.name) == encoded
    for stranger in ("digits/9999", "digits/", "digits/-1", "photo.jpg"):
        assert sources.fetch("digits", stranger) is None
