"""Memory of arrays that speak DLPack alone (jax, cupy, mlx and the like). Source: the DLPack specification, versions 0.8 and 1.x."""

from __future__ import annotations

import ctypes
from ctypes import POINTER, c_char_p, c_int32, c_int64, c_uint8, c_uint16, c_uint32, c_uint64, c_void_p
from typing import Any, NamedTuple

from .errors import InvalidError

_CPU, _CUDA, _CUDA_HOST, _CUDA_MANAGED = 1, 2, 3, 13
_ON_HOST = (_CPU, _CUDA_HOST, _CUDA_MANAGED)
_READ_ONLY = 1


class _Tensor(ctypes.Structure):
    """DLTensor. `shape` and `strides` in elements; no strides = contiguous."""

    _fields_ = [
        ("data", c_void_p),
        ("device_type", c_int32),
        ("device_id", c_int32),
        ("ndim", c_int32),
        ("type_code", c_uint8),
        ("bits", c_uint8),
        ("lanes", c_uint16),
        ("shape", POINTER(c_int64)),
        ("strides", POINTER(c_int64)),
        ("byte_offset", c_uint64),
    ]


class _Versioned(ctypes.Structure):
    """DLManagedTensorVersioned. A capsule without a version begins with the DLTensor itself."""

    _fields_ = [
        ("major", c_uint32),
        ("minor", c_uint32),
        ("context", c_void_p),
        ("deleter", c_void_p),
        ("flags", c_uint64),
        ("tensor", _Tensor),
    ]


_name_of = ctypes.pythonapi.PyCapsule_GetName
_name_of.argtypes, _name_of.restype = [ctypes.py_object], c_char_p
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.argtypes, _pointer_of.restype = [ctypes.py_object, c_char_p], c_void_p


class Memory(NamedTuple):
    """`address` and `size` in bytes, good as long as `keep` lives: a capsule that nobody took gives its memory back itself."""

    address: int
    size: int
    keep: Any
    cuda: bool


def speaks(data: Any) -> bool:
    """False for a class: it has the method too, but no memory."""
    return hasattr(type(data), "__dlpack__")


def memory_of(data: Any, writable: bool) -> Memory:
    """InvalidError: not contiguous, read-only for a get, or on a device that is neither the CPU nor CUDA."""
    kind = type(data).__name__
    try:
        capsule = _capsule_of(data)
    except (BufferError, ValueError, RuntimeError, NotImplementedError) as e:
        raise InvalidError(f"the {kind} gives no memory: {e}") from None
    tensor, read_only = _tensor_of(capsule, kind)
    if writable and read_only:
        raise InvalidError(f"a get cannot write into a read-only {kind}: pass a writable copy")
    if tensor.device_type not in (*_ON_HOST, _CUDA):
        raise InvalidError(f"the {kind} is on a device of DLPack type {tensor.device_type}: pass a copy on the CPU")
    if tensor.bits * tensor.lanes % 8:
        raise InvalidError(f"the {kind} has elements of {tensor.bits * tensor.lanes} bits: pass a view of whole bytes")
    count = _contiguous_count(tensor)
    if count is None:
        raise InvalidError(f"the {kind} is not contiguous: pass a contiguous copy, or its rows as a list of pieces")
    size = count * (tensor.bits * tensor.lanes // 8)
    address = (tensor.data or 0) + tensor.byte_offset if size else 0
    return Memory(address, size, (capsule, data), tensor.device_type == _CUDA)


def _capsule_of(data: Any) -> Any:
    try:
        return data.__dlpack__(max_version=(1, 0))
    except TypeError:  # older than the versions of DLPack
        return data.__dlpack__()


def _tensor_of(capsule: Any, kind: str) -> tuple[_Tensor, bool]:
    """The tensor, and whether it may only be read."""
    name = _name_of(capsule)
    if name == b"dltensor":
        return _Tensor.from_address(_pointer_of(capsule, name)), False
    if name == b"dltensor_versioned":
        versioned = _Versioned.from_address(_pointer_of(capsule, name))
        if versioned.major == 1:
            return versioned.tensor, bool(versioned.flags & _READ_ONLY)
    raise InvalidError(f"the {kind} speaks a DLPack that is not known here: pass a copy as numpy array")


def _contiguous_count(tensor: _Tensor) -> int | None:
    """How many elements, in C order without gaps; None: otherwise."""
    shape = [tensor.shape[i] for i in range(tensor.ndim)]
    count = 1
    for extent in shape:
        count *= extent
    expected = 1
    for axis in reversed(range(tensor.ndim)):
        if count and tensor.strides and shape[axis] != 1 and tensor.strides[axis] != expected:
            return None
        expected *= shape[axis]
    return count
