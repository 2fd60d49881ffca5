"""Cut, broken and hostile Caffe files end in a DataError, never in another error, a hang or much memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from caffe_files import caffemodel, chunk, description, varint, write
from hypothesis import given, settings
from hypothesis import strategies as st

from convsmith.errors import DataError, UnsupportedError
from convsmith.interop import caffe, caffe_text, caffe_wire

LAYER = 'layer { name: "a" type: "Convolution" bottom: "data" top: "a" convolution_param { num_output: 2 kernel_size: 1 } }'
ARRAYS = {"a": [np.ones((2, 3, 1, 1), np.float32), np.zeros(2, np.float32)]}
WHOLE = caffemodel(ARRAYS)


def test_numbers_of_the_documentation() -> None:
    # Protocol Buffers, Encoding: 150 is 96 01; -1 takes ten bytes
    assert caffe_wire.varint(memoryview(b"\x96\x01"), 0) == (150, 2)
    assert varint(-1) == b"\xff" * 9 + b"\x01"
    assert caffe_wire.varint(memoryview(varint(-1)), 0) == (2**64 - 1, 10)
    assert caffe_wire.parse(chunk(1, varint(1 << 3) + varint(-1)), "ReshapeParameter") == {"shape": [{"dim": [-1]}]}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x80", "the file ends inside a number"),
        (b"\xff" * 11, "a number of more than 10 bytes"),
        (b"\x07\x01", "field number 0"),
        (varint(100 << 3 | 3), "wire type 3"),
        (varint(100 << 3 | 2) + varint(2**40), r"1,099,511,627,776 bytes announced"),
        (varint(100 << 3) + b"\x01", r"NetParameter\.layer is a message, and comes as wire type 0"),
        (chunk(100, chunk(7, chunk(5, b"123"))), r"BlobProto\.data comes as wire type 2 with 3 bytes"),
        (chunk(100, chunk(1, b"a") + chunk(7, chunk(7, chunk(1, varint(2**62)) + b""))), r"announces 4611686018427387904 numbers"),
        (chunk(100, chunk(7, chunk(7, chunk(1, varint(-4))))), "announces -4 numbers"),
        (b"", "holds no layer"),
        (b"plain text, no model at all", "is not a whole Caffe model"),
    ],
)
def test_broken_binaries(data: bytes, message: str, tmp_path: Path) -> None:
    text, binary = write(tmp_path, LAYER, ARRAYS)
    binary.write_bytes(data)
    with pytest.raises(DataError, match=message):
        caffe.read(text, binary)


def test_every_truncation_of_a_model_is_refused(tmp_path: Path) -> None:
    text, binary = write(tmp_path, LAYER, ARRAYS)
    caffe.read(text, binary)
    for length in range(len(WHOLE)):
        binary.write_bytes(WHOLE[:length])
        with pytest.raises(DataError):
            caffe.read(text, binary)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, len(WHOLE) - 1), st.integers(0, 255))
def test_a_changed_byte_is_read_or_refused(place: int, value: int) -> None:
    data = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
    try:
        caffe_wire.parse(data)
    except DataError:
        pass


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        caffe_wire.parse(data)
    except DataError:
        pass


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer { name: 'a' ", r"line 1: the description ends inside a message; '}' is missing"),
        ("layer { name: 'a' }\n}", r"line 2: '}' stands where the name of a field is expected"),
        ("layer name", r"line 1: 'name' stands where ':' or '\{' is expected"),
        ("layer: 3", "a message in braces is expected"),
        ("input_dim: x", "'x' is no whole number"),
        ("input_dim: [1, 2", "a list is not closed"),
        ("layers { type: CONVOLUTON }", r"'CONVOLUTON' is none of .* Did you mean 'CONVOLUTION'\?"),
        ("layer { convolution_param { bias_term: maybe } }", "'maybe' is neither true nor false"),
        ('name: "open\n', "is no part of a network description"),
        ("a { " * 30, "nested deeper than 16"),
        ("# nothing", "describes no layer"),
    ],
)
def test_broken_descriptions(text: str, message: str, tmp_path: Path) -> None:
    prototxt, binary = write(tmp_path, LAYER, ARRAYS)
    prototxt.write_text(text)
    with pytest.raises(DataError, match=message):
        caffe.read(prototxt, binary)


def test_text_is_read_as_the_language_says() -> None:
    text = 'name: "a" \'b\\n\' input_dim: [1, 0x10, -3] layer < name: "\\"q\\"" top: [\'x\', "y"] unknown { deep: [1, {}] } >'
    found = caffe_text.parse(text)
    assert found == {"name": ["ab\n"], "input_dim": [1, 16, -3], "layer": [{"name": ['"q"'], "top": ["x", "y"]}]}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.text(alphabet="layer{}<>[]:,;\"'# \n0123.-etypnam", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        caffe_text.parse(text)
    except DataError:
        pass


def test_other_files(tmp_path: Path) -> None:
    text, binary = write(tmp_path, LAYER, ARRAYS)
    with pytest.raises(DataError, match=r"there is no file '.*absent\.caffemodel'"):
        caffe.read(text, tmp_path / "absent.caffemodel")
    text.write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not a whole network description"):
        caffe.read(text, binary)
    text.write_text('layers { layer { name: "a" } }')
    with pytest.raises(UnsupportedError, match=r"Caffe's format of 2013 \(V0\)"):
        caffe.read(text, binary)
    text.write_text('layer { name: "d" type: "Data" top: "data" }' + LAYER)
    with pytest.raises(DataError, match=r"input 'data' has no size; give the deploy\.prototxt"):
        caffe.read(text, binary)
    text.write_text(description(LAYER, (2, 3, 10**15, 10**15)))
    assert caffe.read(text, binary).outputs[0].shape == (-1, 2, 10**15, 10**15)  # no memory is asked for, whatever it says
