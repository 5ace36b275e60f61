"""The programs of the wheel. Each replaces the Python that started it, so that signals and exit codes are its own."""

import os
import pathlib
import sys

FOLDER = pathlib.Path(__file__).resolve().parent / "bin"


def _become(name):
    program = FOLDER / name
    try:
        os.execv(program, [name, *sys.argv[1:]])
    except OSError as error:
        sys.exit(f"{program}: {error.strerror}: is this wheel for this machine (x86-64 Linux, glibc 2.34 or newer)?")


def memkv():
    _become("memkv")


def memkv_bench():
    _become("memkv-bench")
