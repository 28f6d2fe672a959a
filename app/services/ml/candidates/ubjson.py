"""Universal Binary JSON, as XGBoost writes its models: an array of numbers of one type becomes a numpy array at once.

The same model as JSON text takes several times as long to write, and to read back number by number.
"""

import struct

import numpy as np

_NUMBERS = {"i": ("i1", "b"), "U": ("u1", "B"), "I": (">i2", ">h"), "l": (">i4", ">i"), "L": (">i8", ">q")}
_NUMBERS |= {"d": (">f4", ">f"), "D": (">f8", ">d")}
_DTYPES = {ord(marker): np.dtype(dtype) for marker, (dtype, _) in _NUMBERS.items()}
_FORMATS = {ord(marker): struct.Struct(code) for marker, (_, code) in _NUMBERS.items()}
_CONSTANTS = {ord("Z"): None, ord("T"): True, ord("F"): False}
_TEXT, _OBJECT, _OBJECT_END, _ARRAY, _ARRAY_END, _TYPE, _COUNT = b"S{}[]$#"


def decode(data: bytes) -> object:
    """What ``data`` holds: dict, list, str, int, float, bool, None, or a numpy array where all numbers have one type.

    Raises
    ------
    ValueError : it is no such JSON, or only a part of it

    References
    ----------
    Universal Binary JSON specification, draft 12, https://ubjson.org.
    """
    try:
        return _value(data, 0)[0]
    except (KeyError, IndexError, struct.error) as error:
        raise ValueError("this is no Universal Binary JSON, or only a part of it") from error


def _value(data: bytes, at: int) -> tuple[object, int]:
    """The value whose marker is at ``at``, and the place after it; so do all below."""
    marker = data[at]
    if marker == _ARRAY:
        return _array(data, at + 1)
    if marker == _OBJECT:
        return _object(data, at + 1)
    if marker == _TEXT:
        return _text(data, at + 1)
    if marker in _CONSTANTS:
        return _CONSTANTS[marker], at + 1
    return _number(data, at)


def _object(data: bytes, at: int) -> tuple[dict[str, object], int]:
    found = {}
    while data[at] != _OBJECT_END:
        name, at = _text(data, at)
        found[name], at = _value(data, at)
    return found, at + 1


def _array(data: bytes, at: int) -> tuple[object, int]:
    if data[at] == _TYPE and data[at + 2] == _COUNT:
        n_values, start = _length(data, at + 3)
        dtype = _DTYPES[data[at + 1]]
        return np.frombuffer(data, dtype, n_values, start), start + n_values * dtype.itemsize
    found = []
    if data[at] == _COUNT:
        n_values, at = _length(data, at + 1)
        for _ in range(n_values):
            value, at = _value(data, at)
            found.append(value)
        return found, at
    while data[at] != _ARRAY_END:
        value, at = _value(data, at)
        found.append(value)
    return found, at + 1


def _text(data: bytes, at: int) -> tuple[str, int]:
    length, start = _length(data, at)
    if start + length > len(data):
        raise IndexError
    return data[start : start + length].decode(), start + length


def _length(data: bytes, at: int) -> tuple[int, int]:
    length, start = _number(data, at)
    if not isinstance(length, int) or length < 0:
        raise ValueError("a length is no whole number")
    return length, start


def _number(data: bytes, at: int) -> tuple[int | float, int]:
    form = _FORMATS[data[at]]
    number: int | float = form.unpack_from(data, at + 1)[0]
    return number, at + 1 + form.size
