"""What reason codes and anomalies mean in plain language, and what a person can do about each."""

from dataclasses import dataclass

from pipeline.records import duplicates


@dataclass(frozen=True)
class Reason:
    """A reason in plain language.

    Args:
        meaning: What is the matter, one sentence.
        remedy: What can be done, one sentence.
        harmless: Whether the file may be opened to draw it.
    """

    meaning: str
    remedy: str
    harmless: bool = True


_FORMAT = "format_"
_UNEXPECTED = "unexpected_"

_REASONS = {
    "empty": Reason("The file has no bytes at all.", "Copy or download it again, or delete it."),
    "too_many_bytes": Reason(
        "The file is larger than the limit for one image.",
        "Save it smaller, or raise example_gen.max_bytes.",
    ),
    "not_an_image": Reason(
        "No decoder recognises the content as an image, whatever its name says.",
        "Open it in a text editor: often it is an error page that was saved under an image's name.",
    ),
    "too_many_pixels": Reason(
        "The image has more pixels than the limit; small files that unfold to gigabytes are a "
        "known attack.",
        "Scale it down, or raise example_gen.max_pixels if it is meant.",
    ),
    "too_long": Reason(
        "The image is higher or wider than the limit for one side.",
        "Cut or scale it, or raise example_gen.max_side.",
    ),
    "damaged": Reason(
        "It begins as an image, but cannot be decoded to its end: it is cut off or altered.",
        "Copy or download it again; what can still be decoded is shown.",
    ),
    "not_decodable_by_tensorflow": Reason(
        "Pillow reads it, but TensorFlow, which decodes images in the served model, does not, or "
        "sees another size.",
        "Open it in an image editor and save it anew.",
    ),
    duplicates.CONFLICT: Reason(
        "The same picture is there under different classes, so at least one label is wrong.",
        "Decide which label is right and delete the other copies.",
    ),
    "unreadable": Reason(
        "The file could not be read: it is gone, or permission is missing, or the disk failed.",
        "Check that it exists and that this user may read it.",
    ),
    "no_label": Reason("The row names no class.", "Fill in its label, or remove the row."),
    "no_path": Reason("The row names no image file.", "Fill in its path, or remove the row."),
    "unknown_split": Reason(
        "The row names a split that is none of train, eval (or validation) and test.",
        "Correct the name, or leave it empty to have the image assigned.",
    ),
    "not_json": Reason("The line of the manifest is not valid JSON.", "Correct the line."),
    "malformed_row": Reason(
        "The row of the manifest has not the columns that its head announces.",
        "Correct the row; a separator inside a value needs quotes.",
    ),
    "not_an_example": Reason(
        "The record is not a serialized tf.train.Example.",
        "Write the file again with image/encoded and a label in every record.",
    ),
    "no_image": Reason(
        "The record has no image/encoded.", "Write the record again with its image."
    ),
    "shard_damaged": Reason(
        "From this record on the TFRecord file is cut off or altered, so that what follows "
        "cannot be trusted or even counted.",
        "Bring the file again.",
    ),
    "record_damaged": Reason(
        "The record's checksum does not match its bytes.", "Bring the TFRecord file again."
    ),
    "several_values": Reason(
        "The record has several images, labels or groups where there may be one.",
        "Write one record for each image.",
    ),
    "not_utf8": Reason(
        "The row, or the class in the record, is not text in UTF-8.", "Save it in UTF-8."
    ),
    "unknown_scheme": Reason(
        "Nothing that is installed can read a URI of this kind.",
        "Install what reads it, such as apache-beam[gcp] for gs://, or copy the files.",
    ),
    "killed_its_reader": Reason(
        "The process that decoded this image died: it ran out of memory, or a decoder crashed.",
        "Look at it with care; a file that crashes a decoder may be meant to.",
        harmless=False,
    ),
}


def explain(code: str) -> Reason:
    """Returns what a reason code means; a code that is not known is said to be so."""
    if code in _REASONS:
        return _REASONS[code]
    if code.startswith(_FORMAT):
        return Reason(
            f"It is a {code.removeprefix(_FORMAT).upper()} image; JPEG, PNG, GIF, BMP and WebP are "
            "read.",
            "Convert it to PNG or JPEG.",
        )
    if code.startswith(_UNEXPECTED):
        return Reason(
            f"The decoder failed with {code.removeprefix(_UNEXPECTED)}.",
            "Save the image anew; a decoder should not fail like that on any file.",
            harmless=False,
        )
    return Reason("This reason has no explanation here.", "Look at the file itself.")


_ANOMALIES = {
    "too_few_examples": "Add images, give the split a larger share, or lower the schema's minimum.",
    "too_many_examples": "Check for copies, or raise the maximum in the schema.",
    "missing_feature": "Find out why ExampleGen wrote none, or take the feature out of the schema.",
    "wrong_type": "Compare the source with the schema: one of them has changed.",
    "low_presence": "Find the examples without it, or lower presence in the schema.",
    "wrong_number_of_values": "Find those examples, or correct value_count in the schema.",
    "unknown_class": "A new class goes into the schema's list; a misspelt folder is renamed.",
    "missing_class": "Add images of the class, or take it out of the schema's list.",
    "new_class": "If it is meant, nothing; a misspelt folder is renamed.",
    "unexpected_values": "Add the values to the schema, or correct the source.",
    "out_of_range": "Look at the images at the end of the distribution, or widen the domain.",
    "unsupported_images": "See the quarantine below for what is wrong with them, or lower "
    "minimum_supported_image_fraction in the schema.",
    "too_many_bytes": "Save the images smaller, or raise max_image_byte_size in the schema.",
    "imbalance": "Collect more images of the rare class, or raise example_validator.max_imbalance.",
    "drift": "Compare with the previous span: is the difference meant? Then waive it.",
    "drift_unsure": "Look at the distributions below; more images would tell drift from chance.",
    "leakage": "Take the copies out of train, or let ExampleGen do it with "
    "example_gen.official_splits=clean.",
    "near_leakage": "Look at the pairs below; example_gen.drop_near takes such copies out.",
}


def advise(code: str) -> str:
    """Returns what can be done about an anomaly, by its code."""
    return _ANOMALIES.get(code, "Compare the data with the schema, and correct one of them.")
