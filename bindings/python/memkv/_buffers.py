"""Where the bytes of a Python object lie: the buffer protocol, tensors of torch and the like, DLPack. Nothing is copied."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_ssize_t, c_void_p
from typing import Any

from . import _dlpack
from .errors import InvalidError

_PYBUF_WRITABLE, _PYBUF_STRIDES = 0x1, 0x18


class _PyBuffer(ctypes.Structure):
    """Py_buffer, which the stable ABI has since Python 3.11 and which has not changed since 3.0."""

    _fields_ = [
        ("buf", c_void_p),
        ("obj", c_void_p),
        ("len", c_ssize_t),
        ("itemsize", c_ssize_t),
        ("readonly", c_int),
        ("ndim", c_int),
        ("format", c_char_p),
        ("shape", c_void_p),
        ("strides", c_void_p),
        ("suboffsets", c_void_p),
        ("internal", c_void_p),
    ]


_get_buffer = ctypes.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [ctypes.py_object, ctypes.POINTER(_PyBuffer), c_int]
_get_buffer.restype = c_int
_is_contiguous = ctypes.pythonapi.PyBuffer_IsContiguous
_is_contiguous.argtypes = [ctypes.POINTER(_PyBuffer), ctypes.c_char]
_is_contiguous.restype = c_int
_release = ctypes.pythonapi.PyBuffer_Release
_release.argtypes = [ctypes.POINTER(_PyBuffer)]
_release.restype = None


class _Exported:
    """A buffer. Its object keeps it in place as long as this lives."""

    __slots__ = ("view",)

    def __init__(self, view: _PyBuffer) -> None:
        self.view = view

    def __del__(self, release: Any = _release, byref: Any = ctypes.byref) -> None:
        release(byref(self.view))


class Piece:
    """`address` and `size` in bytes; both are valid as long as `keep` lives. `cuda`: it is memory of a GPU."""

    __slots__ = ("address", "size", "keep", "cuda")

    def __init__(self, address: int, size: int, keep: Any, cuda: bool = False) -> None:
        self.address, self.size, self.keep, self.cuda = address, size, keep, cuda


def _of_tensor(tensor: Any) -> Piece:
    """torch.Tensor and what looks like it: data_ptr(), is_contiguous(), element_size(), numel()."""
    if not tensor.is_contiguous():
        raise InvalidError("the tensor is not contiguous: pass tensor.contiguous(), or the rows as a list of pieces")
    device = getattr(getattr(tensor, "device", None), "type", "cpu")
    if device not in ("cpu", "cuda"):
        raise InvalidError(f"the tensor is on device {device!r}: pass tensor.cpu()")
    return Piece(tensor.data_ptr(), tensor.numel() * tensor.element_size(), tensor, device == "cuda")


def _not_contiguous(data: Any) -> InvalidError:
    return InvalidError(f"the {type(data).__name__} is not contiguous: pass a contiguous copy, or its rows as a list of pieces")


def _of_buffer(data: Any, writable: bool) -> Piece:
    """Uses a memoryview: it releases its buffer in C, where no ^C can come in between."""
    try:
        view = memoryview(data)
    except TypeError:
        if _dlpack.speaks(data):
            return Piece(*_dlpack.memory_of(data, writable))
        raise TypeError(f"expected bytes, an array, a tensor or a list of such pieces, not {type(data).__name__}") from None
    except (BufferError, ValueError):  # memoryview has no letter for some types of numpy (bfloat16)
        return _of_raw_buffer(data, writable)
    if not view.c_contiguous:
        raise _not_contiguous(data)
    if view.nbytes == 0:
        return Piece(0, 0, None)
    if view.readonly:
        if writable:
            raise InvalidError(f"a get cannot write into a read-only {type(data).__name__}: pass a bytearray, a writable array, or the like")
        if isinstance(data, bytes):
            return Piece(ctypes.cast(c_char_p(data), c_void_p).value or 0, len(data), data)
        raw = _of_raw_buffer(view, False)
        return Piece(raw.address, raw.size, view)
    memory = ctypes.c_char.from_buffer(view)
    return Piece(ctypes.addressof(memory), view.nbytes, memory)


def _of_raw_buffer(data: Any, writable: bool) -> Piece:
    view = _PyBuffer()
    try:
        _get_buffer(data, ctypes.byref(view), _PYBUF_STRIDES | (_PYBUF_WRITABLE if writable else 0))
    except (BufferError, ValueError) as e:
        what = f"a get cannot write into the {type(data).__name__}" if writable else f"the {type(data).__name__} gives no buffer"
        raise InvalidError(f"{what}: {e}") from None
    exported = _Exported(view)
    if not _is_contiguous(ctypes.byref(view), b"C"):
        raise _not_contiguous(data)
    return Piece(view.buf or 0, view.len, exported)


def piece_of(data: Any, writable: bool) -> Piece:
    """The memory of one object. TypeError: it has none. InvalidError: read-only, or not contiguous."""
    if hasattr(data, "data_ptr") and hasattr(data, "is_contiguous"):
        return _of_tensor(data)
    if isinstance(data, str):
        raise TypeError("text has no bytes of its own: pass text.encode()")
    return _of_buffer(data, writable)


def pieces_of(data: Any, writable: bool = False) -> list[Piece]:
    """The memory of an object, or of each object of a list or tuple."""
    if isinstance(data, (list, tuple)):
        return [piece_of(part, writable) for part in data]
    return [piece_of(data, writable)]
