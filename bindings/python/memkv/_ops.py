"""Ops as columns for one call of the library, and their outcomes."""

from __future__ import annotations

import ctypes
from array import array
from collections.abc import Iterable, Sequence
from ctypes import c_char_p, c_void_p
from itertools import accumulate
from typing import Any, NamedTuple, Union

from . import _library, _parameters
from ._buffers import piece_of, pieces_of
from .errors import InvalidError, MemKVError

Key = Union[str, bytes]


class Outcome(NamedTuple):
    """What became of one op. Sizes in bytes."""

    status: int
    bytes: int
    """get: delivered; put, write: stored"""
    block_bytes: int
    """get, stat: size of the whole block"""
    generation: int
    """version of the block; 0 = none"""
    exists: bool
    """exists, stat, prefetch"""
    unreachable: bool
    """the server could not be asked or did not answer; that is why the status is miss, refused or deadline"""

    @property
    def name(self) -> str:
        """The status's short name: "ok", "miss", "deadline"."""
        return str(_library.lib.memkv_error_name(self.status).decode())

    @property
    def hit(self) -> bool:
        """Done: found, stored, removed."""
        return self.status == _library.OK

    @property
    def failed(self) -> bool:
        """True for failures, False for outcomes such as a miss."""
        return self.status >= 16


def key_bytes(key: Key) -> bytes:
    """Text keys are UTF-8."""
    if isinstance(key, str):
        return key.encode()
    if isinstance(key, bytes):
        return key
    if isinstance(key, (bytearray, memoryview)):
        return bytes(key)
    raise TypeError(f"a key is str or bytes, not {type(key).__name__}")


class Ops:
    """A list of ops. Holds the memory of their pieces."""

    def __init__(self) -> None:
        self.keys: list[bytes] = []
        self.kinds = bytearray()
        self.flags = bytearray()
        self.offsets = array("Q")
        self.generations = array("Q")
        self.counts = array("I")
        self.addresses = array("Q")
        self.sizes = array("Q")
        self.kept: list[Any] = []
        self.cuda: list[tuple[int, int]] = []

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, kind: int, key: Key, data: Any = None, writable: bool = False, offset: int = 0, generation: int = 0, flags: int = 0) -> int:
        """Adds an op and returns its place."""
        encoded = key_bytes(key)
        pieces = () if data is None else pieces_of(data, writable)
        if offset < 0:
            raise InvalidError("an offset is not negative")
        for piece in pieces:
            self.addresses.append(piece.address)
            self.sizes.append(piece.size)
            self.kept.append(piece.keep)
            if piece.cuda:
                self.cuda.append((piece.address, piece.size))
        self.keys.append(encoded)
        self.kinds.append(kind)
        self.flags.append(flags)
        self.offsets.append(offset)
        self.generations.append(generation)
        self.counts.append(len(pieces))
        return len(self.keys) - 1

    @classmethod
    def of_keys(cls, kind: int, keys: Iterable[Key], flags: int = 0) -> "Ops":
        """One op for each key, without memory. Whole columns are made at once, since a loop in Python is slow."""
        ops = cls()
        ops.keys = [key.encode() if isinstance(key, str) else key_bytes(key) for key in keys]
        count = len(ops.keys)
        ops.kinds, ops.flags = bytearray([kind]) * count, bytearray([flags]) * count
        ops.offsets = ops.generations = array("Q", bytes(8 * count))
        ops.counts = array("I", bytes(4 * count))
        return ops

    @classmethod
    def of_pages(cls, kind: int, keys: Iterable[Key], memory: Any, offsets: Sequence[int], size: int) -> "Ops":
        """One op a key, on `size` bytes of `memory` at `offsets`, in columns at once."""
        ops = cls.of_keys(kind, keys)
        count = len(ops)
        if count != len(offsets):
            raise InvalidError(f"{count} keys and {len(offsets)} offsets: one a key")
        piece = piece_of(memory, kind == _library.OP_GET)
        if count and (size < 0 or min(offsets) < 0 or max(offsets) + size > piece.size):
            raise InvalidError(f"a page of {size} bytes ends outside of the memory, which has {piece.size}")
        ops.kept.append(piece.keep)
        if piece.cuda:
            ops.cuda.append((piece.address, piece.size))
        ops.counts = array("I", [1]) * count
        ops.addresses = array("Q", [piece.address + offset for offset in offsets])
        ops.sizes = array("Q", [size]) * count
        return ops

    def key_text(self, op: int) -> str:
        return repr(self.keys[op].decode(errors="backslashreplace"))


_KIND_NAMES = ["", "get", "put", "put_if_absent", "write", "exists", "remove", "touch", "stat", "prefetch"]


def _address(column: Any) -> int:
    """The address of the first entry of an array or bytearray. It must not grow any more."""
    if not len(column):
        return 0
    return ctypes.addressof(ctypes.c_char.from_buffer(column))


_NOT_YET = -1


class Flight:
    """A submit of at least one op, from before it leaves until its outcomes are here. The code that began it must keep it
    until it is quiet, since the library writes into memory that it holds."""

    def __init__(self, ops: Ops, timeout: float | None) -> None:
        count = len(ops)
        self.ops = ops
        self.pending = c_void_p()
        self.thread = 0  # the thread that waits for it in a call of the library
        self._key_sizes = array("Q", map(len, ops.keys))
        self._key_text = b"".join(ops.keys)
        first = ctypes.cast(c_char_p(self._key_text), c_void_p).value or 0
        self._keys = array("Q", accumulate(self._key_sizes, initial=first))  # the last one is the end
        self.columns = _library.BatchColumns(
            op_count=count,
            keys=_address(self._keys),
            key_sizes=_address(self._key_sizes) or None,
            piece_count=len(ops.sizes),
            pieces=_address(ops.addresses) or None,
            piece_sizes=_address(ops.sizes) or None,
            op_piece_counts=_address(ops.counts) or None,
            op_kinds=_address(ops.kinds) or None,
            op_flags=_address(ops.flags) or None,
            offsets=_address(ops.offsets) or None,
            generations=_address(ops.generations) or None,
            timeout_ns=_parameters.nanoseconds("timeout", timeout),
        )
        self.statuses = array("i", [_NOT_YET]) * count
        self.bytes, self.block_bytes, self.generations = (array("Q", bytes(8 * count)) for _ in range(3))
        self.exists, self.unreachable = bytearray(count), bytearray(count)

    def submit(self, client: c_void_p, queue: c_void_p | None, tag: int) -> None:
        lib = _library.lib
        _library.check(lib.memkv_submit(client, ctypes.byref(self.columns), queue, tag, ctypes.byref(self.pending)))

    def collect(self) -> None:
        """Outcomes into the columns; waits until there are some."""
        results = _library.ResultColumns(
            statuses=_address(self.statuses) or None,
            bytes=_address(self.bytes) or None,
            block_bytes=_address(self.block_bytes) or None,
            generations=_address(self.generations) or None,
            exists=_address(self.exists) or None,
            unreachable=_address(self.unreachable) or None,
        )
        _library.check(_library.lib.memkv_collect(self.pending, ctypes.byref(results)))
        self.ops.kept.clear()  # a traceback may still hold this, and the bytearray must be free to be resized

    @property
    def collected(self) -> bool:
        """The library itself writes this, so a ^C right after its call changes nothing."""
        return self.statuses[0] != _NOT_YET

    @property
    def quiet(self) -> bool:
        """True if nothing touches its memory: it never left, or it is collected."""
        return not self.pending.value or self.collected

    def cancel(self) -> None:
        if not self.quiet:
            _library.lib.memkv_cancel(self.pending)

    def end(self) -> None:
        """Gives it up: cancels it and waits for its end."""
        if not self.quiet:
            self.cancel()
            self.collect()

    def outcomes(self) -> list[Outcome]:
        columns = self.statuses, self.bytes, self.block_bytes, self.generations, map(bool, self.exists), map(bool, self.unreachable)
        return list(map(Outcome._make, zip(*columns)))

    def outcome(self) -> Outcome:
        """The outcome of the only op, which has not failed."""
        if self.statuses[0] >= 16:
            raise self.failure(0)
        return self.outcomes()[0]

    def failure(self, op: int) -> MemKVError:
        """The exception of an op that failed."""
        return _library.failure_of(self.statuses[op], f"{_KIND_NAMES[self.ops.kinds[op]]} {self.ops.key_text(op)}")
