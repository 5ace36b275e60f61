"""The package's types, as those who use it check theirs (py.typed)."""

import os
import subprocess
import sys

from conftest import ROOT

PACKAGE = ROOT / "bindings/python/memkv"


def mypy(*args):
    return subprocess.run([sys.executable, "-m", "mypy", *map(str, args)], capture_output=True, text=True, timeout=240, cwd=ROOT, env={**os.environ, "MYPYPATH": str(PACKAGE.parent)})


def test_the_package_is_typed():
    done = mypy("--strict", "--no-warn-unused-ignores", "--ignore-missing-imports", "--python-version", "3.10", "--cache-dir=build/mypy", PACKAGE)
    assert done.returncode == 0, done.stdout


def test_a_users_mistake_is_found(tmp_path):
    (tmp_path / "user.py").write_text("import memkv\nwith memkv.connect() as kv:\n    size: int = kv.get_into('k', bytearray(4))\n")
    done = mypy("--strict", "--cache-dir=build/mypy", "--explicit-package-bases", tmp_path / "user.py")
    assert done.returncode == 1 and '"int | None"' in done.stdout, done.stdout
