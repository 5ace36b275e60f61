"""The life of a client: which threads are inside a call, how it is closed, and what a fork or a ^C leaves behind."""

from __future__ import annotations

import os
import threading
import time
import weakref
from ctypes import c_void_p

from ._library import BUSY, lib
from ._ops import Flight
from .errors import ClosedError

_SLICE_NS = 50_000_000  # between two checks for signals
_CLOSE_S = 5.0  # how long to wait for threads to leave; one that is stopped for good never does


class Call:
    """A thread inside a call that is not an op."""

    collected = False

    def __init__(self) -> None:
        self.thread = threading.get_ident()


class State:
    """A client's handle, and the threads that use it. It outlives the Client object, whose end closes it."""

    def __init__(self, handle: c_void_p) -> None:
        self.handle = handle
        self.changed = threading.Condition()
        self.inside: set[Call | Flight] = set()
        self.closed = False
        _states.add(self)

    def enter(self, who: Call | Flight) -> c_void_p:
        """`who` is inside until leave(): the handle is good that long, and what `who` holds lives that long."""
        with self.changed:
            if self.closed:
                raise ClosedError("this client is closed")
            self.inside.add(who)
        return self.handle

    def leave(self, who: Call | Flight) -> None:
        with self.changed:
            self.inside.discard(who)
            if self.closed:
                self.changed.notify_all()

    def fly(self, flight: Flight) -> None:
        """Submits, and waits in slices, so that signals are handled. However it ends, its memory is quiet then."""
        flight.thread = threading.get_ident()
        try:
            flight.submit(self.enter(flight), None, 0)
            while lib.memkv_wait(flight.pending, _SLICE_NS) == BUSY:
                if self.closed:
                    flight.cancel()
            flight.collect()
        except BaseException:
            flight.end()
            raise
        finally:
            flight.thread = 0
            if flight.quiet:  # else it stays until close(), with what it holds
                self.leave(flight)

    def close(self) -> None:
        """Each thread cancels its own ops within a slice, since no other thread knows whether one is being collected. The
        library cancels the rest. When this returns, no memory of an op is touched any more."""
        with self.changed:
            if self.closed:
                return
            self.closed = True
            until = time.monotonic() + _CLOSE_S
            gone = (0, threading.get_ident())  # what a ^C left behind in this thread is not inside any more
            while any(who.thread not in gone and not who.collected for who in self.inside) and (left := until - time.monotonic()) > 0:
                self.changed.wait(left)
        lib.memkv_close(self.handle)
        self.inside.clear()


_states: weakref.WeakSet[State] = weakref.WeakSet()


def _in_child() -> None:
    """Locks may be held by threads that the child does not have, and the ops are the parent's."""
    for state in _states:
        state.changed = threading.Condition()
        state.inside = set()


os.register_at_fork(after_in_child=_in_child)
