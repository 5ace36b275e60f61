"""Pages of the keys in the store, as ObjectKeys."""

from __future__ import annotations

import base64
import binascii
import bisect
import threading
import time
from typing import Any

from lmcache.v1.distributed.api import EncodedObjectKey, KeyEntry, KeyListPage

from .._client import Client
from .keys import Keys
from .settings import Settings

_FRESH_S = 30.0  # so long later pages come from one listing


class Listing:
    """Keys in order of their bytes; a cursor is the last key of a page, so that it outlives restarts. Thread: any."""

    def __init__(self, client: Client, keys: Keys, settings: Settings) -> None:
        self._client, self._keys, self._timeout = client, keys, settings.store_timeout_s
        self._lock = threading.Lock()
        self._listed: list[tuple[bytes, int]] = []
        self._until = 0.0

    def page(self, model_name: str | None, page_size: int, cursor: str | None) -> KeyListPage:
        if page_size <= 0:
            raise ValueError(f"page_size is above 0, not {page_size}")
        after = _decode(cursor) if cursor is not None else None
        listed = self._list(fresh=after is None)
        start = 0 if after is None else bisect.bisect_right(listed, (after, 1 << 64))
        entries: list[KeyEntry] = []
        for key, size in listed[start:]:
            if len(entries) > page_size:
                break
            if (parts := self._keys.parts(key)) and model_name in (None, parts["model_name"]):
                entries.append((key, _entry(parts, size)))
        more = len(entries) > page_size
        shown = entries[:page_size]
        token = base64.urlsafe_b64encode(shown[-1][0]).decode() if more else None
        return KeyListPage(entries=tuple(entry for _, entry in shown), next_page_token=token)

    def _list(self, fresh: bool) -> list[tuple[bytes, int]]:
        with self._lock:
            if fresh or time.monotonic() > self._until:
                servers = range(len(self._client.servers))
                blocks = [block for server in servers for block in self._client.list(server, timeout=self._timeout)]
                self._listed = sorted((block.key, block.block_bytes) for block in blocks)
                self._until = time.monotonic() + _FRESH_S
            return self._listed


def _decode(cursor: str) -> bytes:
    try:
        return base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
    except (binascii.Error, UnicodeEncodeError) as e:
        raise ValueError(f"cursor {cursor!r} is none that was given out: {e}") from None


def _entry(parts: dict[str, Any], size: int) -> KeyEntry:
    fields = {**parts, "chunk_hash_hex": parts["chunk_hash"].hex()}
    del fields["chunk_hash"]
    return KeyEntry(key=EncodedObjectKey(**fields), size_bytes=size)
