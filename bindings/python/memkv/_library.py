"""libmemkv.so by ctypes: structs, prototypes, and statuses as exceptions (include/memkv/memkv.h, docs/c-api.md)."""

from __future__ import annotations

import ctypes
import os
import pathlib
from ctypes import POINTER, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p
from typing import Any

from . import errors

ABI_VERSION = 1
OK, MISS, EXISTS, REFUSED, CHANGED = range(5)
BUSY = 20
OP_GET, OP_PUT, OP_PUT_IF_ABSENT, OP_WRITE, OP_EXISTS, OP_REMOVE, OP_TOUCH, OP_STAT, OP_PREFETCH = range(1, 10)
FLAG_CHAINED, FLAG_TOUCH = 1, 2
MEMORY_HOST, MEMORY_CUDA = 0, 1


class Sized(ctypes.Structure):
    """A struct that begins with its size."""

    def __init__(self, **fields: Any) -> None:
        super().__init__(struct_size=ctypes.sizeof(type(self)), **fields)


class Options(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("servers", POINTER(c_char_p)),
        ("server_count", c_size_t),
        ("namespace_key", c_char_p),
        ("rdma_devices", POINTER(c_char_p)),
        ("rdma_device_count", c_size_t),
        ("shm_dir", c_char_p),
        ("congestion", c_char_p),
        ("client_name", c_char_p),
        ("config_file", c_char_p),
        ("get_timeout_ns", c_int64),
        ("put_timeout_ns", c_int64),
        ("transport", c_uint32),
        ("io_contexts", c_uint32),
        ("connections_per_worker", c_uint32),
        ("put_checksum", c_uint32),
        ("skip_verify", c_uint32),
        ("reserved", c_uint32),
        ("log_level", c_char_p),
    ]


class BatchColumns(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("op_count", c_size_t),
        ("keys", c_void_p),
        ("key_sizes", c_void_p),
        ("piece_count", c_size_t),
        ("pieces", c_void_p),
        ("piece_sizes", c_void_p),
        ("op_piece_counts", c_void_p),
        ("op_kinds", c_void_p),
        ("op_flags", c_void_p),
        ("offsets", c_void_p),
        ("generations", c_void_p),
        ("kind", c_uint32),
        ("flags", c_uint32),
        ("timeout_ns", c_int64),
    ]


class ResultColumns(Sized):
    _fields_ = [
        ("struct_size", c_size_t),
        ("statuses", c_void_p),
        ("bytes", c_void_p),
        ("block_bytes", c_void_p),
        ("generations", c_void_p),
        ("exists", c_void_p),
        ("unreachable", c_void_p),
    ]


class Listing(ctypes.Structure):
    _fields_ = [
        ("struct_size", c_size_t),
        ("count", c_size_t),
        ("keys", POINTER(c_void_p)),
        ("key_sizes", POINTER(c_size_t)),
        ("block_bytes", POINTER(c_uint64)),
        ("generations", POINTER(c_uint64)),
    ]


COUNTERS = (
    "ops hits misses failures unknown retries bytes_read bytes_written corrupt connects breaker_opened staged_bytes transport_switches fenced"
).split()


class Counters(Sized):
    _fields_ = [("struct_size", c_size_t), *((name, c_uint64) for name in COUNTERS)]


RAIL_COUNTERS = "working links links_total ops bytes_in bytes_out failures retry_errors rnr_errors access_errors switches".split()


class Rail(Sized):
    _fields_ = [("struct_size", c_size_t), ("device", c_char * 64), *((name, c_uint64) for name in RAIL_COUNTERS)]


def _path() -> str:
    """MEMKV_LIBRARY, the one in this package, or what the loader finds."""
    named = os.environ.get("MEMKV_LIBRARY")
    if named:
        return named
    beside = pathlib.Path(__file__).parent / "lib" / "libmemkv.so.1"
    return str(beside) if beside.exists() else "libmemkv.so.1"


_PROTOTYPES: dict[str, tuple[Any, list[Any]]] = {
    "memkv_version": (c_char_p, []),
    "memkv_abi_version": (c_uint32, []),
    "memkv_error_name": (c_char_p, [c_int32]),
    "memkv_error_text": (c_char_p, [c_int32]),
    "memkv_last_message": (c_char_p, []),
    "memkv_free": (None, [c_void_p]),
    "memkv_connect": (c_int32, [POINTER(Options), POINTER(c_void_p)]),
    "memkv_close": (None, [c_void_p]),
    "memkv_submit": (c_int32, [c_void_p, POINTER(BatchColumns), c_void_p, c_uint64, POINTER(c_void_p)]),
    "memkv_wait": (c_int32, [c_void_p, c_int64]),
    "memkv_cancel": (c_int32, [c_void_p]),
    "memkv_collect": (c_int32, [c_void_p, POINTER(ResultColumns)]),
    "memkv_pending_tag": (c_uint64, [c_void_p]),
    "memkv_queue_open": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "memkv_queue_fd": (c_int, [c_void_p]),
    "memkv_queue_next": (c_void_p, [c_void_p]),
    "memkv_register": (c_int32, [c_void_p, c_void_p, c_size_t, c_uint32, c_int32, POINTER(c_void_p)]),
    "memkv_unregister": (None, [c_void_p]),
    "memkv_server_count": (c_size_t, [c_void_p]),
    "memkv_server_name": (c_int32, [c_void_p, c_size_t, POINTER(c_void_p)]),
    "memkv_server_status": (c_int32, [c_void_p, c_size_t, c_int64, POINTER(c_void_p)]),
    "memkv_server_of": (c_size_t, [c_void_p, c_char_p, c_size_t]),
    "memkv_describe": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "memkv_flush": (c_int32, [c_void_p, c_int64]),
    "memkv_list": (c_int32, [c_void_p, c_size_t, c_uint64, c_int64, POINTER(POINTER(Listing))]),
    "memkv_listing_free": (None, [POINTER(Listing)]),
    "memkv_client_counters": (c_int32, [c_void_p, POINTER(Counters)]),
    "memkv_client_rail": (c_int32, [c_void_p, c_size_t, POINTER(Rail)]),
}


def _load() -> ctypes.CDLL:
    path = _path()
    try:
        library = ctypes.CDLL(path)  # calls release the GIL
    except OSError as e:
        raise ImportError(f"memkv: {path} cannot be loaded: {e}; set MEMKV_LIBRARY to libmemkv.so.1") from e
    library.memkv_abi_version.restype = c_uint32
    found = library.memkv_abi_version()
    if found < ABI_VERSION:
        raise ImportError(f"memkv: {path} has version {found} of the ABI, and this package needs {ABI_VERSION}: install one that fits")
    for name, (result, arguments) in _PROTOTYPES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


lib = _load()


def check(status: int) -> int:
    """Returns an outcome as it is. Raises the failure of a whole call, with the library's message."""
    if status < 16:
        return status
    raise errors.of(status, lib.memkv_last_message().decode(errors="replace"))


def failure_of(status: int, what: str) -> errors.MemKVError:
    """The exception of one op's failure. `what`: the op and its key."""
    return errors.of(status, f"{what}: {lib.memkv_error_text(status).decode()}")


def take_text(pointer: c_void_p) -> str:
    """The text behind a `char**` result, which is freed."""
    try:
        return ctypes.string_at(pointer.value or 0).decode(errors="replace")
    finally:
        lib.memkv_free(pointer)
