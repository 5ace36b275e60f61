"""MemKV: a store for the KV cache of LLM inference."""

from importlib.metadata import version as _version

__version__ = _version("memkv")
