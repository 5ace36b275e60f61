"""Failures as exceptions, one class a status. Outcomes are no exceptions: a miss is None, a refused put is False."""

from __future__ import annotations


class MemKVError(Exception):
    """`status`: the number (include/memkv/memkv.h); `name`: its short name, stable."""

    status = 31
    name = "internal"


class InvalidError(MemKVError, ValueError):
    """The request itself is wrong: an empty or too long key, a bad range, a bad setting."""

    status, name = 16, "invalid"


class TooLargeError(MemKVError, ValueError):
    """The block is larger than the store's limit."""

    status, name = 17, "too_large"


class UnauthorizedError(MemKVError, PermissionError):
    """The server does not accept the credential, or did not prove its own."""

    status, name = 18, "unauthorized"


class VersionError(MemKVError):
    """Client and server have no protocol version in common."""

    status, name = 19, "version"


class BusyError(MemKVError):
    """A pool was empty until the deadline."""

    status, name = 20, "busy"


class NotReadyError(MemKVError):
    """The server was recovering until the deadline."""

    status, name = 21, "not_ready"


class DeadlineError(MemKVError, TimeoutError):
    """The deadline passed: a get did not happen, a put may still land."""

    status, name = 22, "deadline"


class UnavailableError(MemKVError, ConnectionError):
    """The server cannot be reached."""

    status, name = 23, "unavailable"


class UnknownError(MemKVError):
    """A change was sent and its reply was lost: it may or may not have happened."""

    status, name = 24, "unknown"


class CorruptError(MemKVError):
    """Bytes failed their checksum, and were not used."""

    status, name = 25, "corrupt"


class IoError(MemKVError, OSError):
    """A device or a socket failed."""

    status, name = 26, "io"


class NoSpaceError(MemKVError):
    """No room, and none could be made in time; or the limit of locked memory."""

    status, name = 27, "no_space"


class CanceledError(MemKVError):
    """Canceled by the caller, by the op it was chained to, or by close()."""

    status, name = 28, "canceled"


class ForkedError(MemKVError, RuntimeError):
    """The client is that of the parent process: connect() in the child."""

    status, name = 29, "forked"


class InternalError(MemKVError):
    """A bug in MemKV."""

    status, name = 31, "internal"


class UnsupportedError(MemKVError):
    """This host, device or transport cannot do it; nothing was done."""

    status, name = 32, "unsupported"


class ClosedError(MemKVError, ValueError):
    """The client is closed."""

    status, name = 16, "invalid"


_BY_STATUS = {
    kind.status: kind
    for kind in (
        InvalidError, TooLargeError, UnauthorizedError, VersionError, BusyError, NotReadyError, DeadlineError, UnavailableError, UnknownError,
        CorruptError, IoError, NoSpaceError, CanceledError, ForkedError, InternalError, UnsupportedError,
    )
}  # fmt: skip


def of(status: int, text: str) -> MemKVError:
    """The exception of a failure."""
    error = _BY_STATUS.get(status, InternalError)(text)
    return error
