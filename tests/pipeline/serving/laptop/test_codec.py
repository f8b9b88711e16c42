"""TF Serving's JSON: what comes in, what goes out, and what is refused."""

import base64
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.serving.laptop import codec
from pipeline.serving.laptop.codec import Signature, Tensor
from pipeline.serving.laptop.limits import Limits, RefusedError

_TEXT = np.dtype(object)
_FLOAT = np.dtype(np.float32)
_PIXEL = np.dtype(np.uint8)

_SIGNATURES = {
    signature.name: signature
    for signature in (
        Signature(
            "serving_default",
            {"image_bytes": Tensor(_TEXT, (None,))},
            {"scores": Tensor(_FLOAT, (None, 2)), "error": Tensor(_TEXT, (None,))},
        ),
        Signature("number", {"x": Tensor(_FLOAT, (None,))}, {"y": Tensor(_FLOAT, (None,))}),
        Signature(
            "pixels",
            {"images": Tensor(_PIXEL, (None, None, None, 3))},
            {"y": Tensor(_FLOAT, (None,))},
        ),
        Signature(
            "two",
            {"a": Tensor(_FLOAT, (None, 2)), "b": Tensor(_TEXT, (None,))},
            {"y": Tensor(_FLOAT, (None,))},
        ),
        Signature("whole", {"x": Tensor(np.dtype(np.int64), ())}, {"y": Tensor(_FLOAT, ())}),
        Signature("truth", {"x": Tensor(np.dtype(bool), None)}, {"y": Tensor(_FLOAT, (None,))}),
    )
}
_LIMITS = Limits(max_instances=4)


def _parse(body, limits=_LIMITS):
    return codec.parse(
        body if isinstance(body, bytes) else json.dumps(body).encode(), _SIGNATURES, limits
    )


def _b64(content):
    return {"b64": base64.b64encode(content).decode()}


def test_rows_of_files():
    found = _parse({"instances": [_b64(b"\x00\xff"), "text"]})
    assert found.signature.name == "serving_default"
    assert (found.rows, found.is_columnar) == (2, False)
    assert found.inputs["image_bytes"].tolist() == [b"\x00\xff", b"text"]
    named = _parse({"instances": [{"image_bytes": _b64(b"\x00\xff")}]})
    assert named.inputs["image_bytes"].tolist() == [b"\x00\xff"]


def test_base64_without_padding_is_read_as_tf_serving_does():
    found = _parse({"instances": [{"b64": "YQ"}, {"b64": "YWI"}, {"b64": "YQ=="}]})
    assert found.inputs["image_bytes"].tolist() == [b"a", b"ab", b"a"]


def test_columns_by_name_or_of_the_only_input():
    for inputs in ({"x": [1, 2.5]}, [1, 2.5]):
        found = _parse({"signature_name": "number", "inputs": inputs})
        assert (found.rows, found.is_columnar) == (2, True)
        assert found.inputs["x"].dtype == np.float32
        assert found.inputs["x"].tolist() == [1, 2.5]
    assert _parse({"inputs": []}).rows == 0


def test_several_inputs_in_rows_and_in_columns():
    rows = [{"a": [1, 2], "b": "x"}, {"b": _b64(b"y"), "a": [3, 4]}]
    columns = {"a": [[1, 2], [3, 4]], "b": ["x", "y"]}
    for more in ({"instances": rows}, {"inputs": columns}):
        found = _parse({"signature_name": "two", **more})
        assert found.inputs["a"].tolist() == [[1, 2], [3, 4]]
        assert found.inputs["b"].tolist() == [b"x", b"y"]
        assert found.rows == 2


def test_pixels_and_what_has_no_rows():
    found = _parse({"signature_name": "pixels", "instances": [[[[0, 1, 255]]]]})
    assert found.inputs["images"].dtype == np.uint8
    assert found.inputs["images"].shape == (1, 1, 1, 3)
    found = _parse({"signature_name": "whole", "inputs": 5})
    assert (found.rows, found.inputs["x"]) == (0, 5)
    assert _parse({"signature_name": "truth", "inputs": [[True], [False]]}).inputs["x"].ndim == 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"", "empty"),
        (b"\xff{}", "not UTF-8"),
        (b"{", "not JSON"),
        (b"<html><body>", "not JSON"),
        (b"[]", "an empty list; expected an object"),
        (b"3", "a whole number; expected an object"),
        (b'{"instances": [' + b"[" * 5000 + b"]" * 5000 + b"]}", "nested too deep"),
        (b"[" * 1_000_000, "nested too deep"),
        (b'{"instances": [' + b"1" * 5000 + b"]}", "digits"),
        (b"[" + b"0," * 2_100_000 + b"0]", "2,000,000"),
        ({}, "either 'instances'"),
        ({"instances": ["a"], "inputs": ["a"]}, "either 'instances'"),
        ({"signature_name": 3, "instances": ["a"]}, "signature_name: a whole number"),
        ({"signature_name": "no", "instances": ["a"]}, "'no': not of this model; it has number"),
        ({"instances": []}, "an empty list; expected a list of at least one"),
        ({"instances": {"image_bytes": "a"}}, "an object; expected a list"),
        ({"instances": ["a"] * 5}, "instances: 5 of them; expected at most 4"),
        ({"inputs": ["a"] * 5}, "5 rows; expected at most 4"),
        ({"instances": [1]}, "a whole number; expected strings"),
        ({"instances": [None]}, "null; expected strings"),
        ({"instances": [{"b64": "!!"}]}, "value 0: not base64"),
        ({"instances": [{"b64": "a"}]}, "not base64"),
        ({"instances": [{"b64": "é"}]}, "not base64"),
        ({"instances": [{"b64": 3}]}, "instances[0]: 'b64'; expected an object with the keys"),
        ({"instances": [{"other": "a"}]}, "instances[0]: 'other'"),
        ({"instances": [{"image_bytes": "a"}, "b"]}, "instances[1]: a string"),
        ({"instances": ["b", {"image_bytes": "a"}]}, "some are objects"),
        ({"instances": [["a"]]}, "has the shape (1, 1); expected (any)"),
        ({"inputs": "a"}, "has the shape (); expected (any)"),
        ({"inputs": {"x": ["a"]}}, "inputs: has the keys 'x'; expected 'image_bytes'"),
        ({"signature_name": "two", "instances": ["a"]}, "objects with the keys 'a', 'b'"),
        ({"signature_name": "two", "inputs": ["a"]}, "an object with the keys 'a', 'b'"),
        (
            {"signature_name": "two", "inputs": {"a": [[1, 2]], "b": ["x", "y"]}},
            "different numbers of rows",
        ),
        ({"signature_name": "two", "inputs": {"a": [[1]], "b": ["x"]}}, "expected (any, 2)"),
        ({"signature_name": "number", "instances": ["1"]}, "a string; expected a decimal"),
        ({"signature_name": "number", "instances": [True]}, "true or false; expected"),
        ({"signature_name": "number", "instances": [[1], [2, 3]]}, "differ in length"),
        ({"signature_name": "number", "instances": [1, [2]]}, "differ in length"),
        ({"signature_name": "number", "instances": [1e39]}, "too large for float32"),
        (b'{"signature_name": "number", "instances": [1e999]}', "too large"),
        (b'{"signature_name": "number", "instances": [1' + b"0" * 400 + b"]}", "too large"),
        (b'{"signature_name": "number", "instances": [NaN]}', "NaN is no number"),
        (b'{"signature_name": "number", "instances": [-Infinity]}', "-Infinity is no number"),
        ({"signature_name": "pixels", "instances": [[[[0, 1, 256]]]]}, "from 0 to 255"),
        ({"signature_name": "pixels", "instances": [[[[0, 1, -1]]]]}, "from 0 to 255"),
        ({"signature_name": "pixels", "instances": [[[[0, 1, 0.5]]]]}, "a decimal number; expec"),
        ({"signature_name": "pixels", "instances": [[[[0, 1]]]]}, "expected (any, any, any, 3)"),
        ({"signature_name": "pixels", "instances": ["x" * 1000, *[""] * 3]}, "a string"),
        ({"signature_name": "whole", "inputs": 10**30}, "expected numbers from -9223372036854775"),
        ({"signature_name": "truth", "inputs": [1]}, "a whole number; expected true or false"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_what_was_expected(body, said):
    with pytest.raises(RefusedError) as refused:
        _parse(body)
    assert refused.value.status == 400
    assert said in str(refused.value)
    assert len(str(refused.value)) < 400


_JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: (
        some.lists(inner, max_size=4)
        | some.dictionaries(some.sampled_from(["b64", "a", "b", "x", "images"]), inner, max_size=3)
    ),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(
    _JSON,
    some.sampled_from(["instances", "inputs"]),
    some.sampled_from([*_SIGNATURES, None]),
)
def test_any_json_is_understood_or_refused(values, key, name):
    try:
        found = _parse(json.dumps({key: values, "signature_name": name}).encode())
    except RefusedError as error:
        assert error.status == 400
        return
    for tensor, array in zip(found.signature.inputs.values(), found.inputs.values(), strict=True):
        assert array.dtype == tensor.kind
        assert tensor.shape is None or array.ndim == len(tensor.shape)


@settings(max_examples=100, deadline=None)
@given(some.binary(max_size=200))
def test_any_bytes_are_refused(body):
    with pytest.raises(RefusedError):
        _parse(body)


def test_answers_in_rows_and_in_columns():
    outputs = {
        "scores": np.array([[0.5, 0.25]], np.float32),
        "error": np.array([b"caf\xc3\xa9"], object),
        "thumb_bytes": np.array([b"\x00\xff"], object),
    }
    row = {"scores": [0.5, 0.25], "error": "café", "thumb_bytes": {"b64": "AP8="}}
    assert json.loads(codec.answer(outputs, False)) == {"predictions": [row]}
    columns = {name: [value] for name, value in row.items()}
    assert json.loads(codec.answer(outputs, True)) == {"outputs": columns}


def test_the_name_of_the_only_output_is_left_out():
    outputs = {"y": np.array([2, 3])}
    assert json.loads(codec.answer(outputs, False)) == {"predictions": [2, 3]}
    assert json.loads(codec.answer(outputs, True)) == {"outputs": [2, 3]}
    assert json.loads(codec.answer({"y": np.float32(2)}, True)) == {"outputs": 2}


def test_float32_survives_json():
    values = np.random.default_rng(0).random(1000, np.float32)
    found = json.loads(codec.answer({"y": values}, False))["predictions"]
    np.testing.assert_array_equal(np.array(found, np.float32), values)


def test_outputs_that_are_no_rows_are_not_answered_in_rows():
    for outputs in ({"y": np.zeros(())}, {"y": np.zeros(2), "z": np.zeros(3)}):
        with pytest.raises(RefusedError, match="'inputs'"):
            codec.answer(outputs, False)
