"""TF Serving's JSON: requests to arrays, arrays to answers.

The format is that of TF Serving's page "RESTful API": rows in `instances`, answered in
`predictions`, or columns in `inputs`, answered in `outputs`; bytes as `{"b64": "..."}`.
"""

import binascii
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from pipeline.serving import session
from pipeline.serving.laptop.limits import Limits, RefusedError

DEFAULT = "serving_default"
ERRORS = "error"

# JSON of few bytes may become many objects; so many take some 200 MB.
_MOST_VALUES = 2_000_000
_BINARY = "_bytes"
_B64 = "b64"
_WORDS = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
_WORDS |= {type(None): "null", int: "a whole number", float: "a decimal number"}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Args:
        kind: Its type in NumPy; `object` for strings. None for what NumPy has not.
        shape: The length of each axis, None where it may be any; None where not even their number
            is known.
    """

    kind: np.dtype | None
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True)
class Signature:
    """What a signature takes and gives.

    Args:
        name: Such as `serving_default`.
        inputs: By name.
        outputs: By name.
    """

    name: str
    inputs: Mapping[str, Tensor]
    outputs: Mapping[str, Tensor]

    @property
    def is_batched(self) -> bool:
        """Whether everything has rows of any number, so that those of several requests go together."""
        return all(
            tensor.shape and tensor.shape[0] is None
            for tensor in (*self.inputs.values(), *self.outputs.values())
        )

    @property
    def has_row_errors(self) -> bool:
        """Whether a bad row says so itself, as in what this project exports."""
        return self.is_batched and ERRORS in self.outputs


@dataclass(frozen=True)
class Request:
    """A request to predict.

    Args:
        signature: What it asks for.
        inputs: An array for each input.
        rows: How many rows it has; 0 where its inputs are not of rows.
        is_columnar: Whether it is in columns, and answered so.
    """

    signature: Signature
    inputs: dict[str, np.ndarray]
    rows: int
    is_columnar: bool


def signature_of(name: str, message: Any) -> Signature:
    """Returns the signature that a `SignatureDef` describes."""
    return Signature(
        name,
        {key: _tensor(value) for key, value in sorted(message.inputs.items())},
        {key: _tensor(value) for key, value in sorted(message.outputs.items())},
    )


def _tensor(message: Any) -> Tensor:
    kind = np.dtype(object) if message.dtype == session.STRING else session.TYPES.get(message.dtype)
    if message.tensor_shape.unknown_rank:
        return Tensor(kind, None)
    sizes = (dimension.size for dimension in message.tensor_shape.dim)
    return Tensor(kind, tuple(None if size < 0 else size for size in sizes))


def parse(body: bytes | bytearray, signatures: Mapping[str, Signature], limits: Limits) -> Request:
    """Returns the request that a body holds.

    Raises:
        RefusedError: It is no JSON, or not what the signature takes; the message says where.
    """
    values = _json(body)
    name = values.get("signature_name") or DEFAULT
    if not isinstance(name, str):
        _refuse(f"signature_name: {_word(name)}; expected a string")
    if name not in signatures:
        known = ", ".join(sorted(signatures)) or "none at all"
        _refuse(f"signature_name {name[:100]!r}: not of this model; it has {known}")
    signature = signatures[name]
    if ("instances" in values) == ("inputs" in values):
        _refuse("expected either 'instances' (rows) or 'inputs' (columns), and one of them alone")
    is_columnar = "inputs" in values
    columns = (
        _columns_of_inputs(values["inputs"], signature)
        if is_columnar
        else _columns_of_rows(values["instances"], signature, limits.max_instances)
    )
    inputs = {
        key: _array(columns[key], tensor, f"input {key!r}")
        for key, tensor in signature.inputs.items()
    }
    return Request(signature, inputs, _rows(signature, inputs, limits), is_columnar)


def _json(body: bytes | bytearray) -> dict[str, Any]:
    if not body:
        _refuse('the body is empty; expected JSON such as {"instances": [...]}')
    count = sum(map(body.count, (b",", b"[", b"{")))
    if count > _MOST_VALUES:
        _refuse(
            f"about {count:,} JSON values; expected at most {_MOST_VALUES:,}: send less at once, or "
            "images as files in base64"
        )
    try:
        values = json.loads(str(body, "utf-8"), parse_constant=_not_a_number)
    except UnicodeDecodeError as error:
        _refuse(f"the body is not UTF-8: byte {error.start} cannot be decoded")
    except json.JSONDecodeError as error:
        _refuse(f"the body is not JSON: {error.msg} at character {error.pos}")
    except RecursionError:
        _refuse("the body is JSON that is nested too deep")
    except ValueError as error:  # a number of thousands of digits
        _refuse(f"the body is not JSON: {error}")
    if not isinstance(values, dict):
        _refuse(f'the body is {_word(values)}; expected an object such as {{"instances": [...]}}')
    return values


def _not_a_number(text: str) -> NoReturn:
    _refuse(f"{text} is no number of JSON, and no input may be it")


def _columns_of_rows(rows: Any, signature: Signature, most: int) -> dict[str, Any]:
    if not isinstance(rows, list) or not rows:
        _refuse(f"instances: {_word(rows)}; expected a list of at least one")
    if len(rows) > most:
        _refuse(f"instances: {len(rows):,} of them; expected at most {most}")
    names = set(signature.inputs)
    if not _is_named(rows[0]):
        if len(names) != 1:
            _refuse(f"instances: expected objects with the keys {_listed(names)}")
        if any(map(_is_named, rows)):
            _refuse("instances: some are objects of named inputs and some are not")
        return dict.fromkeys(names, rows)
    for place, row in enumerate(rows):
        if not _is_named(row) or set(row) != names:
            found = _listed(row) if isinstance(row, dict) else _word(row)
            _refuse(
                f"instances[{place}]: {found}; expected an object with the keys {_listed(names)}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _columns_of_inputs(columns: Any, signature: Signature) -> dict[str, Any]:
    names = set(signature.inputs)
    if not _is_named(columns):
        if len(names) != 1:
            _refuse(f"inputs: {_word(columns)}; expected an object with the keys {_listed(names)}")
        return dict.fromkeys(names, columns)
    if set(columns) != names:
        _refuse(f"inputs: has the keys {_listed(columns)}; expected {_listed(names)}")
    return columns


def _is_named(value: Any) -> bool:
    """Whether it is an object of inputs by name, and not of bytes."""
    return isinstance(value, dict) and not _is_binary(value)


def _is_binary(value: dict[str, Any]) -> bool:
    return len(value) == 1 and isinstance(value.get(_B64), str)


def _array(values: Any, tensor: Tensor, where: str) -> np.ndarray:
    if tensor.kind is None:
        _refuse(f"{where}: of a type that this server does not know")
    # As objects first: NumPy would make strings as long as the longest, all of them.
    array = np.array(values, object)
    kinds = set(map(type, array.ravel().tolist()))
    if list in kinds:
        _refuse(f"{where}: its lists differ in length or depth")
    array = (
        _strings(array, kinds, where)
        if tensor.kind == object
        else _numbers(array, kinds, tensor.kind, where)
    )
    expected = tensor.shape
    if expected is not None and (
        array.ndim != len(expected)
        or any(want not in (None, found) for found, want in zip(array.shape, expected, strict=True))
    ):
        wanted = ", ".join("any" if size is None else str(size) for size in expected)
        _refuse(f"{where}: has the shape {array.shape}; expected ({wanted})")
    return array


def _strings(array: np.ndarray, kinds: Iterable[type], where: str) -> np.ndarray:
    if unknown := set(kinds) - {str, dict}:
        _refuse(f'{where}: {_words(unknown)}; expected strings, or bytes as {{"b64": "..."}}')
    found = np.empty(array.size, object)
    for place, value in enumerate(array.ravel().tolist()):
        at = f"{where}, value {place}"
        if isinstance(value, dict):
            if not _is_binary(value):
                _refuse(f'{at}: an object; expected a string, or bytes as {{"b64": "..."}}')
            found[place] = _decoded(value[_B64], at)
        else:
            found[place] = value.encode(errors="surrogatepass")
    return found.reshape(array.shape)


def _decoded(text: str, where: str) -> bytes:
    try:
        # Padding may be left out, as TF Serving allows it.
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError as error:
        _refuse(f"{where}: not base64 ({error})")


def _numbers(array: np.ndarray, kinds: Iterable[type], kind: np.dtype, where: str) -> np.ndarray:
    allowed = {"b": {bool}, "f": {int, float}}.get(kind.kind, {int})
    if unknown := set(kinds) - allowed:
        _refuse(f"{where}: {_words(unknown)}; expected {_words(allowed)}")
    try:
        if kind.kind in "iu":
            limits = np.iinfo(kind)
            values = array.ravel().tolist()
            if values and not limits.min <= min(values) <= max(values) <= limits.max:
                _refuse(f"{where}: expected numbers from {limits.min} to {limits.max}")
            return array.astype(kind)
        with np.errstate(over="ignore"):
            found = array.astype(kind)
    except OverflowError:
        _refuse(f"{where}: a number is too large for {kind}")
    if kind.kind == "f" and not np.isfinite(found).all():
        _refuse(f"{where}: a number is too large for {kind}")
    return found


def _rows(signature: Signature, inputs: Mapping[str, np.ndarray], limits: Limits) -> int:
    if not signature.is_batched:
        return 0
    counts = {name: len(array) for name, array in inputs.items()}
    if len(set(counts.values())) != 1:
        _refuse(f"inputs: have different numbers of rows, {counts}")
    rows = next(iter(counts.values()))
    if rows > limits.max_instances:
        _refuse(f"inputs: {rows:,} rows; expected at most {limits.max_instances}")
    return rows


def answer(outputs: Mapping[str, np.ndarray], is_columnar: bool) -> bytes:
    """Returns the answer as JSON.

    Of one output the name is left out. Strings of outputs that end in `_bytes` are in base64. As
    in TF Serving a number that is none becomes the token NaN.

    Args:
        outputs: An array for each output.
        is_columnar: Whether the request was in columns.

    Raises:
        RefusedError: It was in rows, and the outputs are not.
    """
    if not is_columnar:
        counts = {name: array.shape[:1] for name, array in outputs.items()}
        if len(set(counts.values())) != 1 or () in counts.values():
            _refuse("the outputs differ in their number of rows; ask with 'inputs'")
    values = {name: _values(array, name.endswith(_BINARY)) for name, array in outputs.items()}
    if len(values) == 1:
        (found,) = values.values()
    elif is_columnar:
        found = values
    else:
        found = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return json.dumps({"outputs" if is_columnar else "predictions": found}).encode()


def _values(array: np.ndarray, is_binary: bool) -> Any:
    if array.dtype != object:
        return array.tolist()
    texts = np.empty(array.size, object)
    for place, value in enumerate(array.ravel().tolist()):
        if is_binary:
            texts[place] = {_B64: binascii.b2a_base64(value, newline=False).decode()}
        else:
            texts[place] = value.decode(errors="replace")
    return texts.reshape(array.shape).tolist()


def _refuse(message: str) -> NoReturn:
    raise RefusedError(400, message)


def _word(value: Any) -> str:
    if value == []:
        return "an empty list"
    return _WORDS[type(value)]


def _words(kinds: Iterable[type]) -> str:
    return " and ".join(sorted(_WORDS[kind] for kind in kinds))


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(repr(name[:100]) for name in shown[:10]) + (" …" if len(shown) > 10 else "")
