"""The prefix of a model's keys: what LMCache's own keys leave out (weights, dtypes, layout). memkv.naming, docs/engines/keys.md."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future

from .. import naming
from .notes import warn
from .settings import Settings

_AGAIN_S = 60.0  # after a failure: the weights may have come since
_NAME_BYTES = len("0123456789abcdef" * 2 + "/")


class Namespace:
    """Prefixes by model name. Weights are read in a thread of their own, as that may take a while. Thread: any."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.prefix + "lmcache/"
        self._lock = threading.Lock()
        self._known: dict[str, bytes] = {}
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
            named = naming.prefix(
                engine="lmcache",
                weights=naming.weights_identity(model, settings.revision, settings.weights),
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
        self._known[model] = settings.prefix.encode() + named
        future.set_result(self._known[model])

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
