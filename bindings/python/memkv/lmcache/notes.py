"""What goes to the log: the same text at most once a minute."""

from __future__ import annotations

import logging
import time

_AGAIN_S = 60.0
_TEXTS_MAX = 256
_log = logging.getLogger("memkv.lmcache")
_said: dict[str, float] = {}


def note(text: str) -> None:
    _log.info("MemKV: %s", text)


def warn(text: str) -> None:
    now = time.monotonic()
    if now < _said.get(text, 0.0):
        return
    if len(_said) >= _TEXTS_MAX:
        _said.clear()
    _said[text] = now + _AGAIN_S
    _log.warning("MemKV: %s", text)
