"""The prefix of a model's keys: what LMCache's own keys leave out (weights, dtypes, layout). memkv.naming, docs/engines/keys.md."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

from .. import naming
from .notes import note, warn
from .settings import Settings

_AGAIN_S = 60.0  # after a failure: the weights may have come since
_NOT_GIVEN = "not given"
_NAME_BYTES = len("0123456789abcdef" * 2 + "/")


class Namespace:
    """Prefixes by model name. Weights are read in a thread of their own, as that may take a while. Thread: any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.prefix + "lmcache/"
        self._lock = threading.Lock()
        self._known: dict[str, bytes] = {}
        self._told: dict[str, dict[str, str]] = {}
        self._begun: dict[str, tuple[Future[bytes], float]] = {}

    def prefix(self, model: str, wait_s: float) -> bytes:
        """TimeoutError: its weights are still being read. InvalidError: they cannot be told."""
        return self._known.get(model) or self._begin(model).result(wait_s)

    def _begin(self, model: str) -> Future[bytes]:
        with self._lock:
            future, until = self._begun.get(model, (None, 0.0))
            if future is None or (future.done() and time.monotonic() > until):
                future = Future()
                self._begun[model] = future, time.monotonic() + _AGAIN_S
                threading.Thread(target=self._make, args=(model, future), name="memkv-weights", daemon=True).start()
            return future

    def _make(self, model: str, future: Future[bytes]) -> None:
        settings = self._settings
        try:
            weights = naming.weights_identity(model, settings.revision, settings.weights)
            named = naming.prefix(
                engine="lmcache",
                weights=weights,
                dtype=settings.dtype,
                kv_dtype=settings.kv_dtype,
                layout=settings.layout,
                block_bytes=0,  # a load of another size than the block's fails
                salt=settings.salt,
            )
        except Exception as e:
            warn(f'nothing of model {model!r} is stored or loaded: {e} (adapter_params "weights")')
            future.set_exception(e)
            return
        known = settings.prefix.encode() + named
        self._told[model] = self._tell(model, known, weights)
        self._known[model] = known
        future.set_result(known)

    def _tell(self, model: str, prefix: bytes, weights: str) -> dict[str, str]:
        """LMCache tells an adapter no types: what the operator did not name either is told, for blocks of another type would
        be taken for these."""
        settings = self._settings
        given = {name: getattr(settings, name) for name in ("dtype", "kv_dtype", "layout")}
        told = {"prefix": prefix.decode(), "weights": weights, **{name: _NOT_GIVEN if text == "auto" else text for name, text in given.items()}}
        text = f"keys of model {model!r} begin with {told['prefix']!r} ({', '.join(f'{name} {told[name]}' for name in ('weights', *given))})"
        if told["kv_dtype"] == _NOT_GIVEN:
            warn(f'{text}: an engine with another --kv-cache-dtype or --dtype must not share them, give each its own adapter_params "kv_dtype"')
        else:
            note(text)
        return told

    def names(self) -> dict[str, dict[str, str]]:
        """By model: what stands before its keys, and what that is made of; for people."""
        return dict(self._told)

    def model_in(self, before: str) -> str | None:
        """The model whose prefix and name make up `before`; None: another namespace's."""
        end = len(self._root) + _NAME_BYTES
        model = before[end:]
        if not before.startswith(self._root) or not model:
            return None
        try:
            return model if self.prefix(model, self._settings.store_timeout_s) == before[:end].encode() else None
        except Exception:  # of which it is said above why
            return None
