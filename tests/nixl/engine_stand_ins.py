"""Loads the NIXL code of engines unchanged (engines/engines.tar.xz), with stand-ins for torch and the rest of the engine."""

import importlib.abc
import importlib.machinery
import pathlib
import sys
import tarfile
import types

ARCHIVE = pathlib.Path(__file__).resolve().parent / "engines" / "engines.tar.xz"
ROOTS = {"vllm", "sglang", "lmcache", "torch"}


class Anything:
    """Whatever an engine imports and this code only names: it may be called, subclassed and annotated with."""

    def __init__(self, *args, **kwargs):
        pass

    def __call__(self, *args, **kwargs):
        return Anything()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()

    def __mro_entries__(self, bases):
        return ()

    def __getitem__(self, key):
        return Anything()

    def __iter__(self):
        return iter(())

    def __or__(self, other):
        return Anything()

    __ror__ = __or__


class StandIn(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything()


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last to be asked: for modules that the archive does not have."""

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in ROOTS else None

    def create_module(self, spec):
        return StandIn(spec.name)

    def exec_module(self, module):
        pass


def use_engines(folder):
    """Unpacks the archive into `folder` and makes it importable, and NIXL under the name that engines have for it."""
    from nixl_cu12 import _api

    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    sys.modules.pop("torch", None)
    sys.path.insert(0, str(folder))
    sys.meta_path.append(Finder())
    sys.modules["nixl"] = sys.modules["nixl_cu12"]
    sys.modules["nixl._api"] = _api
    return _api
