"""The blocking client."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_char_p, c_void_p
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from . import _library, _parameters
from ._buffers import piece_of
from ._library import check, lib, take_text
from ._ops import Flight, Key, Ops, Outcome, key_bytes
from ._state import Call, State
from .errors import InvalidError, UnsupportedError

_GUESS_BYTES = 256 << 10  # for a block whose size is not known


@dataclass(frozen=True)
class ListedBlock:
    """A block of a listing. `block_bytes`: its size; `generation`: its version."""

    key: bytes
    block_bytes: int
    generation: int


class Region:
    """Memory that is registered with the NICs; unregister() waits until none can touch it. A context manager."""

    def __init__(self, client: "ClientBase", data: Any, device: int) -> None:
        self._piece = piece_of(data, writable=True)
        kind = _library.MEMORY_CUDA if self._piece.cuda else _library.MEMORY_HOST
        handle = c_void_p()
        with client._inside() as opened:
            check(lib.memkv_register(opened, self._piece.address, self._piece.size, kind, device, ctypes.byref(handle)))
        self._end = weakref.finalize(self, _unregister, handle, self._piece, client._cuda)
        if self._piece.cuda:
            client._cuda.append((self._piece.address, self._piece.size))

    def unregister(self) -> None:
        """Waits until no NIC can touch the memory."""
        self._end()

    def __enter__(self) -> "Region":
        return self

    def __exit__(self, *_: object) -> None:
        self.unregister()


def _unregister(handle: c_void_p, piece: Any, cuda: list[tuple[int, int]]) -> None:
    lib.memkv_unregister(handle)
    if piece.cuda:
        cuda.remove((piece.address, piece.size))


class Batch:
    """Ops that run together when the `with` block ends; each succeeds or fails alone.

    Each call returns the op's place in `outcomes`. `data`: bytes, an array, a tensor, or a list of such pieces; it is
    neither copied nor to be changed before the block has ended."""

    def __init__(self, client: "Client", timeout: float | None) -> None:
        _parameters.nanoseconds("timeout", timeout)  # complain here, and not where the block ends
        self._client, self._timeout, self._ops = client, timeout, Ops()
        self._chain = 0
        self.outcomes: list[Outcome] = []
        """One an op, in order, once the block has ended."""

    def put(self, key: Key, data: Any, *, if_absent: bool = False, offset: int | None = None) -> int:
        """Stores a block; with `offset` (bytes) writes a range of one."""
        return add_put(self._ops, key, data, if_absent, offset, self._flags())

    def get_into(self, key: Key, into: Any, *, offset: int = 0, generation: int = 0) -> int:
        """Reads the range from `offset` (bytes) on into writable memory."""
        return self._ops.add(_library.OP_GET, key, into, True, offset, generation, self._flags())

    def exists(self, key: Key, *, touch: bool = False) -> int:
        """Asks whether the block is there. With `touch` a block that is found counts as used."""
        return self._ops.add(_library.OP_EXISTS, key, flags=self._flags() | (_library.FLAG_TOUCH if touch else 0))

    def remove(self, key: Key) -> int:
        return self._ops.add(_library.OP_REMOVE, key, flags=self._flags())

    def touch(self, key: Key) -> int:
        return self._ops.add(_library.OP_TOUCH, key, flags=self._flags())

    def stat(self, key: Key) -> int:
        return self._ops.add(_library.OP_STAT, key, flags=self._flags())

    def prefetch(self, key: Key) -> int:
        """As Client.prefetch(), of one block."""
        return self._ops.add(_library.OP_PREFETCH, key, flags=self._flags())

    def chained(self) -> "Batch":
        """The op added next starts only after the one before it is done, and is canceled if that failed."""
        self._chain = _library.FLAG_CHAINED
        return self

    def _flags(self) -> int:
        flags, self._chain = self._chain, 0
        return flags

    def __len__(self) -> int:
        return len(self._ops)

    def __enter__(self) -> "Batch":
        return self

    def __exit__(self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None) -> None:
        if kind is None:
            flight = self._client._fly(self._ops, self._timeout)
            self.outcomes = flight.outcomes() if flight else []
        self._ops = Ops()


def hints_of(keys: Iterable[Key]) -> Ops:
    """Prefetches of a list of keys."""
    if isinstance(keys, (str, bytes)):
        raise TypeError("prefetch() takes a list of keys")
    return Ops.of_keys(_library.OP_PREFETCH, keys)


def add_put(ops: Ops, key: Key, data: Any, if_absent: bool, offset: int | None, flags: int = 0) -> int:
    if if_absent and offset is not None:
        raise InvalidError("if_absent is for whole blocks, offset for a range of one")
    kind = _library.OP_PUT_IF_ABSENT if if_absent else _library.OP_PUT if offset is None else _library.OP_WRITE
    return ops.add(kind, key, data, offset=offset or 0, flags=flags)


def open_client(
    servers: str | Iterable[str] | None,
    auth_key: str | None,
    transport: str,
    rdma_devices: str | Iterable[str],
    shm_dir: str | None,
    io_contexts: int,
    connections_per_worker: int,
    get_timeout: float | None,
    put_timeout: float | None,
    verify: bool,
    congestion: str | None,
    client_name: str | None,
    config_file: str | None,
    log_level: str | None,
) -> State:
    """memkv_connect() with Python's arguments."""
    encoded = [server.encode() for server in _parameters.names("servers", servers)]
    devices = [device.encode() for device in _parameters.devices("rdma_devices", rdma_devices)]

    def text(name: str, value: str | None) -> bytes | None:
        checked = _parameters.optional_text(name, value)
        return checked.encode() if checked else None

    options = _library.Options(
        servers=(c_char_p * len(encoded))(*encoded),
        server_count=len(encoded),
        namespace_key=text("auth_key", auth_key),
        rdma_devices=(c_char_p * len(devices))(*devices),
        rdma_device_count=len(devices),
        shm_dir=text("shm_dir", shm_dir),
        congestion=text("congestion", congestion),
        client_name=text("client_name", client_name),
        config_file=text("config_file", config_file),
        get_timeout_ns=_parameters.nanoseconds("get_timeout", get_timeout),
        put_timeout_ns=_parameters.nanoseconds("put_timeout", put_timeout),
        transport=_parameters.TRANSPORTS[_parameters.transport("transport", transport)],
        io_contexts=_parameters.count("io_contexts", io_contexts, 0, _parameters.IO_CONTEXTS_MAX),
        connections_per_worker=_parameters.count(
            "connections_per_worker", connections_per_worker, 0, _parameters.CONNECTIONS_PER_WORKER_MAX
        ),
        log_level=text("log_level", _parameters.optional_log_level("log_level", log_level)),
        skip_verify=int(not _parameters.flag("verify", verify)),
    )
    handle = c_void_p()
    check(lib.memkv_connect(ctypes.byref(options), ctypes.byref(handle)))
    return State(handle)


class ClientBase:
    """What the blocking client and the one of asyncio share."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._cuda: list[tuple[int, int]] = []
        self._end = weakref.finalize(self, state.close)

    @contextmanager
    def _inside(self) -> Iterator[c_void_p]:
        call = Call()
        handle = self._state.enter(call)
        try:
            yield handle
        finally:
            self._state.leave(call)

    def _check_cuda(self, ops: Ops) -> None:
        """Refuses GPU memory that no region covers: the CPU would read it."""
        for address, size in ops.cuda:
            if not any(start <= address and address + size <= start + length for start, length in self._cuda):
                raise UnsupportedError("the tensor is on a GPU and not registered: register() it, or pass tensor.cpu()")

    def register(self, data: Any, device: int = 0) -> Region:
        """Registers memory with the NICs, so that rdma moves it without a copy; tcp and shm need none. `device`: of CUDA
        memory. UnsupportedError says why GPU memory cannot be registered here."""
        return Region(self, data, device)

    @property
    def servers(self) -> list[str]:
        """Names of the servers, in the order of the list."""
        names = []
        with self._inside() as handle:
            for server in range(lib.memkv_server_count(handle)):
                text = c_void_p()
                check(lib.memkv_server_name(handle, server, ctypes.byref(text)))
                names.append(take_text(text))
        return names

    def server_of(self, key: Key) -> int:
        """The server that has this key, as its place in the list."""
        encoded = key_bytes(key)
        with self._inside() as handle:
            return int(lib.memkv_server_of(handle, encoded, len(encoded)))

    def counters(self) -> dict[str, int]:
        """Counters of this client since it was connected. Names ending in bytes or starting with bytes_ are bytes."""
        counters = _library.Counters()
        with self._inside() as handle:
            check(lib.memkv_client_counters(handle, ctypes.byref(counters)))
        return {name: getattr(counters, name) for name in _library.COUNTERS}

    def rails(self) -> list[dict[str, Any]]:
        """Counters of this process's NICs; empty without RDMA."""
        rails: list[dict[str, Any]] = []
        with self._inside() as handle:
            while True:
                rail = _library.Rail()
                if check(lib.memkv_client_rail(handle, len(rails), ctypes.byref(rail))) == _library.MISS:
                    return rails
                rails.append({"device": rail.device.decode(), **{name: getattr(rail, name) for name in _library.RAIL_COUNTERS}})


class Client(ClientBase):
    """A client whose calls block. Any thread may use it; waiting lets go of the GIL. Close it, or use `with`.

    Timeouts are seconds; None = the default of the op's kind (2 s for reads, 10 s for changes, and the time that the bytes
    take). Keys are 1 to 1,024 bytes; text keys are UTF-8. What is read and written is bytes, or anything with the buffer
    protocol, or a torch tensor on the CPU (contiguous), or a list of such pieces. A failure raises a MemKVError."""

    def _fly(self, ops: Ops, timeout: float | None) -> Flight | None:
        if not len(ops):
            _parameters.nanoseconds("timeout", timeout)  # as with ops
            return None
        self._check_cuda(ops)
        flight = Flight(ops, timeout)
        self._state.fly(flight)
        return flight

    def _one(self, ops: Ops, timeout: float | None) -> Outcome:
        flight = self._fly(ops, timeout)
        assert flight
        return flight.outcome()

    def put(self, key: Key, data: Any, *, if_absent: bool = False, offset: int | None = None, timeout: float | None = None) -> bool:
        """Stores a block. `offset`: writes that range (bytes) of the block instead. True = stored. False = the store chose
        not to take it, or with `if_absent` the key was there.

        >>> kv.put("doc/1", b"hello")
        True
        """
        ops = Ops()
        add_put(ops, key, data, if_absent, offset)
        return self._one(ops, timeout).hit

    def get(self, key: Key, *, offset: int = 0, size: int | None = None, timeout: float | None = None) -> bytes | None:
        """The block, or `size` bytes of it from `offset` on; None = a miss.

        >>> kv.get("doc/1"), kv.get("doc/1", offset=1, size=3), kv.get("doc/none")
        (b'hello', b'ell', None)
        """
        wanted = _GUESS_BYTES if size is None else size
        while True:
            buffer = bytearray(wanted)
            outcome = self._get(key, buffer, offset, timeout)
            if outcome is None:
                return None
            whole = max(0, outcome.block_bytes - offset)
            if size is not None or whole <= wanted:
                return bytes(memoryview(buffer)[: outcome.bytes])
            wanted = whole

    def get_into(self, key: Key, into: Any, *, offset: int = 0, timeout: float | None = None) -> int | None:
        """Reads the range from `offset` on into writable memory, without a copy. How many bytes were delivered: of a block that
        is longer, what fits, without another sign than its size (stat()). None = a miss, and then the content of the memory
        is unspecified.

        >>> memory = bytearray(8)
        >>> kv.get_into("doc/1", memory), memory[:5]
        (5, bytearray(b'hello'))
        """
        outcome = self._get(key, into, offset, timeout)
        return None if outcome is None else outcome.bytes

    def _get(self, key: Key, into: Any, offset: int, timeout: float | None) -> Outcome | None:
        ops = Ops()
        ops.add(_library.OP_GET, key, into, True, offset)
        outcome = self._one(ops, timeout)
        return outcome if outcome.hit else None

    def exists(self, key: Key, *, timeout: float | None = None) -> bool:
        """Whether the block is there now. If its server cannot be asked, the answer is False.

        >>> kv.exists("doc/1")
        True
        """
        ops = Ops()
        ops.add(_library.OP_EXISTS, key)
        return self._one(ops, timeout).hit

    def exists_many(self, keys: Iterable[Key], *, touch: bool = False, timeout: float | None = None) -> list[bool]:
        """One answer for each key, in one round. A key that could not be asked about is False."""
        flight = self._fly(Ops.of_keys(_library.OP_EXISTS, keys, _library.FLAG_TOUCH if touch else 0), timeout)
        return [status == _library.OK for status in flight.statuses] if flight else []

    def prefetch(self, keys: Iterable[Key], *, timeout: float | None = None) -> list[bool]:
        """Tells the servers that these blocks will be asked for soon: one that has a RAM tier may read them from its drive
        into memory meanwhile. No byte comes here, and nothing is promised. True = the block is in the server's memory, or
        on its way there (without a RAM tier: it is there); False = it is not there, or its server did not take the hint.

        >>> kv.prefetch(["doc/1", "doc/none"])
        [True, False]
        """
        flight = self._fly(hints_of(keys), timeout)
        return [status == _library.OK for status in flight.statuses] if flight else []

    def get_pages(self, keys: Iterable[Key], memory: Any, offsets: Sequence[int], size: int, *, timeout: float | None = None) -> list[int | None]:
        """Reads many blocks into one memory (an engine's pool) in one call: block i into `size` bytes at `offsets[i]`. How
        many bytes of each were delivered, `size` at most; None = a miss or a failure.

        >>> pool = bytearray(300)
        >>> kv.get_pages(["doc/1", "doc/none"], pool, [100, 200], 100), pool[100:105]
        ([5, None], bytearray(b'hello'))
        """
        flight = self._fly(Ops.of_pages(_library.OP_GET, keys, memory, offsets, size), timeout)
        return [count if status == _library.OK else None for status, count in zip(flight.statuses, flight.bytes)] if flight else []

    def put_pages(self, keys: Iterable[Key], memory: Any, offsets: Sequence[int], size: int, *, timeout: float | None = None) -> list[bool]:
        """Stores `size` bytes at `offsets[i]` of `memory` under key i. True = stored."""
        flight = self._fly(Ops.of_pages(_library.OP_PUT, keys, memory, offsets, size), timeout)
        return [status == _library.OK for status in flight.statuses] if flight else []

    def remove(self, key: Key, *, timeout: float | None = None) -> bool:
        """Removes the block. True = it was there.

        >>> kv.remove("doc/1"), kv.remove("doc/1")
        (True, False)
        """
        ops = Ops()
        ops.add(_library.OP_REMOVE, key)
        return self._one(ops, timeout).hit

    def touch(self, key: Key, *, timeout: float | None = None) -> bool:
        """Counts the block as used, as if it had been read. True = it is there."""
        ops = Ops()
        ops.add(_library.OP_TOUCH, key)
        return self._one(ops, timeout).hit

    def stat(self, key: Key, *, timeout: float | None = None) -> Outcome | None:
        """Size (`block_bytes`) and version (`generation`); None = a miss."""
        ops = Ops()
        ops.add(_library.OP_STAT, key)
        outcome = self._one(ops, timeout)
        return outcome if outcome.hit else None

    def batch(self, timeout: float | None = None) -> Batch:
        """Many ops in one call, run when the `with` block ends.

        >>> with kv.batch() as b:
        ...     _ = b.put("a", b"1"), b.exists("none")
        >>> [outcome.name for outcome in b.outcomes]
        ['ok', 'miss']
        """
        return Batch(self, timeout)

    def flush(self, *, timeout: float | None = None) -> None:
        """Removes every block of this credential's namespace on all servers."""
        with self._inside() as handle:
            check(lib.memkv_flush(handle, _parameters.nanoseconds("timeout", timeout)))

    def list(self, server: int = 0, *, limit: int = 0, timeout: float | None = None) -> list[ListedBlock]:
        """Blocks of the namespace on one server (its place in `servers`); `limit` 0 = all."""
        listing = ctypes.POINTER(_library.Listing)()
        with self._inside() as handle:
            check(lib.memkv_list(handle, server, limit, _parameters.nanoseconds("timeout", timeout), ctypes.byref(listing)))
        try:
            columns = listing.contents
            return [
                ListedBlock(ctypes.string_at(columns.keys[i] or 0, columns.key_sizes[i]), columns.block_bytes[i], columns.generations[i])
                for i in range(columns.count)
            ]
        finally:
            lib.memkv_listing_free(listing)

    def describe(self) -> str:
        """One line a server: connected or why not, and over which transport."""
        text = c_void_p()
        with self._inside() as handle:
            check(lib.memkv_describe(handle, ctypes.byref(text)))
        return take_text(text)

    def server_status(self, server: int = 0, *, timeout: float | None = None) -> str:
        """The status of one server as JSON text."""
        text = c_void_p()
        with self._inside() as handle:
            check(lib.memkv_server_status(handle, server, _parameters.nanoseconds("timeout", timeout), ctypes.byref(text)))
        return take_text(text)

    def close(self) -> None:
        """Cancels what is under way and ends. When it returns, no memory of an op is touched any more."""
        self._end()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
