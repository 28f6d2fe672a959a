"""Plain state to joblib bytes and back, with a reader that knows numpy arrays and nothing else.

An allow-list is the second wall, behind the signature: alone it would accept a flipped bit in a number.
"""

import io
import math
from typing import Any, cast

import numpy as np
from joblib.numpy_pickle import NumpyArrayWrapper, NumpyPickler, NumpyUnpickler

from app.errors import ArtifactRefused
from app.services.ml.candidates.base import State

MAX_DEPTH = 12
PROTOCOL = 4
ARRAY_KINDS = "biuf"  # booleans, integers, floats
ALIGNMENT = 16  # joblib pads array bytes to this


def write_plain(state: State) -> bytes:
    """Uncompressed joblib bytes of a plain state. Equal states may give different bytes: hash the state, not these.

    Raises
    ------
    ArtifactRefused : something in the state is not plain
    """
    buffer = io.BytesIO()
    NumpyPickler(buffer, protocol=PROTOCOL).dump(plain_copy(state))
    return buffer.getvalue()


def read_plain(data: bytes) -> State:
    """The state back. Call it only on bytes whose signature has been verified.

    Raises
    ------
    ArtifactRefused : the bytes name anything but numpy arrays, are damaged, or hold no plain state
    """
    buffer = io.BytesIO(data)
    try:
        loaded = _PlainUnpickler(buffer).load()
    except ArtifactRefused:
        raise
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything; all of it means "refused"
        raise ArtifactRefused(f"A stored model cannot be read ({type(error).__name__}).") from None
    if buffer.read(1) or not isinstance(loaded, dict):
        raise ArtifactRefused("A stored model holds something else than one state.")
    return cast("State", plain_copy(loaded))


def plain_copy(value: Any, depth: int = 0) -> Any:
    """A copy made of plain parts only: numpy scalars become Python's, arrays become contiguous.

    Raises
    ------
    ArtifactRefused : another type, an object array, a key that is no text, or deeper than `MAX_DEPTH`
    """
    if depth > MAX_DEPTH:
        raise ArtifactRefused(f"A model's state is nested deeper than {MAX_DEPTH} levels.")
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if isinstance(value, np.generic) and value.dtype.kind in ARRAY_KINDS:
        return value.item()
    if type(value) is np.ndarray and value.dtype.kind in ARRAY_KINDS:
        return np.ascontiguousarray(value).reshape(value.shape)
    if type(value) in (list, tuple):
        return type(value)(plain_copy(item, depth + 1) for item in value)
    if type(value) is dict and all(type(key) is str for key in value):
        return {key: plain_copy(item, depth + 1) for key, item in value.items()}
    raise ArtifactRefused(f"A model's state holds a {type(value).__name__}, which is no plain parameter.")


class _PlainArray(NumpyArrayWrapper):  # type: ignore[misc]  # joblib ships no types
    """joblib's place-holder of an array, read by our rules: plain numbers, no more than the bytes that are left."""

    def read(self, unpickler: "_PlainUnpickler", ensure_native_byte_order: bool) -> Any:
        dtype, shape = self.dtype, self.shape
        if not isinstance(dtype, np.dtype):
            raise ArtifactRefused("A stored array has no type.")
        if dtype.kind not in ARRAY_KINDS or dtype.hasobject or self.order not in ("C", "F"):
            raise ArtifactRefused(f"A stored array of {dtype} is not plain numbers.")
        if type(shape) is not tuple or not all(type(n) is int and n >= 0 for n in shape):
            raise ArtifactRefused("A stored array has an impossible shape.")
        if math.prod(shape) * dtype.itemsize > unpickler.bytes_left():
            raise ArtifactRefused("A stored array is larger than the model that holds it.")
        if self.numpy_array_alignment_bytes != ALIGNMENT:
            raise ArtifactRefused("A stored array is aligned in an unknown way.")
        return self.read_array(unpickler, ensure_native_byte_order)


class _ArrayName:
    """Stands for `numpy.ndarray` in a pickle, where only its name is needed: calling it would allocate anything."""


class _PlainUnpickler(NumpyUnpickler):  # type: ignore[misc]  # joblib ships no types
    """Three names are known; every other one is refused before anything is imported or called."""

    ALLOWED = {  # noqa: RUF012 - a constant
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _PlainArray,
        ("numpy", "ndarray"): _ArrayName,
        ("numpy", "dtype"): np.dtype,
    }

    def __init__(self, buffer: io.BytesIO) -> None:
        super().__init__("", buffer, ensure_native_byte_order=True)
        self._buffer = buffer
        self._size = buffer.getbuffer().nbytes

    def bytes_left(self) -> int:
        return self._size - self._buffer.tell()

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self.ALLOWED[module, name]
        except KeyError:
            raise ArtifactRefused(f"A stored model names {module[:40]}.{name[:40]}, which is never read.") from None

    def persistent_load(self, pid: Any) -> Any:
        raise ArtifactRefused(f"A stored model refers to something outside itself ({type(pid).__name__}).")
