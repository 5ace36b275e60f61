"""SGLang imports torchvision where it handles images. The one of the registry needs CUDA's torch; storage needs none of it."""

import importlib.machinery
import importlib.util
import sys
import types


class _Names(type):
    """A class that has every name: enumerations such as InterpolationMode."""

    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Anything(types.ModuleType):
    __path__: list = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return _Names(name, (), {})


class _Finder:
    """Finds torchvision and every module in it, all empty; classes are there when asked for."""

    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torchvision":
            return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        return _Anything(spec.name)

    def exec_module(self, module):
        module.__version__ = "0.0"


def install():
    if importlib.util.find_spec("torchvision") is None:
        sys.meta_path.insert(0, _Finder())
