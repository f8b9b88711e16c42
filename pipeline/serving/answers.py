"""What a server answers, as typed values, from the form that TF Serving's REST interface has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.serving.attempts import ServingError

_AVAILABLE = "AVAILABLE"
_OK = "OK"
# TensorFlow's own, which nobody can ask.
_INTERNAL = "__"
_NOT_SENT = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class ImagePrediction:
    """What the model says of one image.

    Args:
        path: The file as it was named, or None where bytes were given.
        classes: Names of the most probable classes, best first; none where the image is bad.
        scores: Their probabilities.
        probabilities: float32 (classes,), in label order; zeros where the image is bad, and
            nothing, (0,), where it was never sent.
        error: Why the image is bad, a code such as `"not_decodable"`, or `"unreadable"` of a file
            that could not be read; empty where it is good.
    """

    path: str | None
    classes: tuple[str, ...]
    scores: tuple[float, ...]
    probabilities: np.ndarray
    error: str = ""


@dataclass(frozen=True)
class VersionStatus:
    """A version of the model as the server has it.

    Args:
        version: Its number.
        state: `START`, `LOADING`, `AVAILABLE`, `UNLOADING` or `END`.
        error_code: `OK`, or what went wrong.
        error_message: The same in words.
    """

    version: int
    state: str
    error_code: str
    error_message: str

    @property
    def is_available(self) -> bool:
        """Whether it answers requests."""
        return self.state == _AVAILABLE


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Args:
        dtype: TensorFlow's name, such as `"DT_STRING"`.
        shape: Its lengths, None where any will do; None as a whole where it may have any rank.
    """

    dtype: str
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclass(frozen=True)
class Metadata:
    """The model that answers.

    Args:
        model: Its name.
        version: The number of the version.
        signatures: By name.
    """

    model: str
    version: int
    signatures: dict[str, Signature]


OUTPUTS = ("classes", "error", "probabilities", "scores")


def without_answer(path: str | None, error: str) -> ImagePrediction:
    """Returns the row of an image that the server has not seen."""
    return ImagePrediction(path, (), (), _NOT_SENT, error)


def rows(
    paths: Sequence[str | None], outputs: Mapping[str, np.ndarray], server: str
) -> list[ImagePrediction]:
    """Returns the row of each image from the outputs of an exported model, which are `OUTPUTS`.

    Raises:
        ServingError: They are not of so many images, or of other types.
    """
    try:
        if any(len(outputs[name]) != len(paths) for name in OUTPUTS):
            raise ValueError("another number of rows")
        return [_row(path, outputs, place) for place, path in enumerate(paths)]
    except (AttributeError, TypeError, ValueError) as error:
        shapes = {name: outputs[name].shape for name in OUTPUTS}
        raise ServingError(
            f"{server}: an answer to {len(paths)} images that does not fit, of the shapes {shapes} "
            f"({error})"
        ) from None


def versions(answer: Mapping[str, Any], server: str) -> list[VersionStatus]:
    """Returns the versions that a status lists, lowest first.

    Raises:
        ServingError: It has another form.
    """
    try:
        found = [_version(one) for one in answer["model_version_status"]]
        return sorted(found, key=lambda version: version.version)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _foreign(server, "status", error) from None


def metadata(answer: Mapping[str, Any], server: str) -> Metadata:
    """Returns the signatures that metadata describe.

    Raises:
        ServingError: They have another form.
    """
    try:
        spec, described = answer["model_spec"], answer["metadata"]["signature_def"]
        signatures = {
            name: Signature(_tensors(one.get("inputs", {})), _tensors(one.get("outputs", {})))
            for name, one in described["signature_def"].items()
            if not name.startswith(_INTERNAL)
        }
        return Metadata(spec["name"], int(spec["version"]), signatures)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise _foreign(server, "metadata", error) from None


def _version(described: Mapping[str, Any]) -> VersionStatus:
    status = described.get("status", {})  # messages leave out what is as it is by default
    code, message = status.get("error_code", _OK), status.get("error_message", "")
    return VersionStatus(int(described["version"]), str(described["state"]), str(code), message)


def _foreign(server: str, what: str, error: Exception) -> ServingError:
    return ServingError(
        f"{server}: {what} of another form than TF Serving's ({type(error).__name__}: {error})"
    )


def _row(path: str | None, outputs: Mapping[str, np.ndarray], place: int) -> ImagePrediction:
    error = outputs["error"][place].decode()
    probabilities = np.asarray(outputs["probabilities"][place], np.float32)
    if error:
        return ImagePrediction(path, (), (), probabilities, error)
    names = tuple(name.decode(errors="replace") for name in outputs["classes"][place])
    scores = tuple(np.asarray(outputs["scores"][place], np.float32).tolist())
    if len(names) != len(scores):
        raise ValueError("another number of scores than of classes")
    return ImagePrediction(path, names, scores, probabilities, "")


def _tensors(described: Mapping[str, Any]) -> dict[str, Tensor]:
    return {
        name: Tensor(one["dtype"], _shape(one["tensor_shape"])) for name, one in described.items()
    }


def _shape(described: Mapping[str, Any]) -> tuple[int | None, ...] | None:
    if described.get("unknown_rank"):
        return None
    sizes = (int(dimension["size"]) for dimension in described.get("dim", ()))
    return tuple(None if size < 0 else size for size in sizes)
