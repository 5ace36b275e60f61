#!/usr/bin/env python3
"""Who may include whom.

Each folder of src/ names what it may include in the `module(NAME DEPS ...)` line of its CMakeLists.txt. This checks that
  - a file of a module includes only its own module, its DEPS, and include/memkv (free for all);
  - plugins/ include only include/memkv, src/base and files beside themselves; bindings/ not even src/base;
  - nothing under include/memkv includes src/;
  - the modules form no circle;
  - heavy headers stand in .cc files only, liburing in src/io only.
tools/, bench/, sim/ and tests/ may include anything.
"""
import itertools
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
HEAVY = re.compile(r"^(CLI/|nlohmann/|httplib\.h|yaml-cpp/|liburing\.h|gtest/|gmock/|benchmark/|spdlog/|openssl/)")
OUTSIDE_SRC = {"plugins": {"base"}, "bindings": set()}  # the modules that each of these folders may include
TEST_HELPER = re.compile(r"_(testing|rig)\.h$|^test_.*\.h$|^fake_.*\.h$")


def modules():
    """Module name -> set of modules it may include."""
    laws = {}
    for file in sorted(ROOT.glob("src/*/CMakeLists.txt")):
        match = re.search(r"^module\(\s*(\w+)([^)]*)\)", file.read_text(), re.M)
        if not match:
            sys.exit(f"{file.relative_to(ROOT)}: no module(NAME DEPS ...) line")
        words = match.group(2).split()
        deps = words[words.index("DEPS") + 1 :] if "DEPS" in words else []
        deps = list(itertools.takewhile(lambda word: not word.isupper(), deps))
        if match.group(1) != file.parent.name:
            sys.exit(f"{file.relative_to(ROOT)}: module {match.group(1)} is not named like its folder")
        laws[match.group(1)] = set(deps)
    return laws


def circles(laws):
    def reaches(start, at, seen):
        for dep in laws.get(at, ()):
            if dep == start or (dep not in seen and reaches(start, dep, seen | {dep})):
                return True
        return False

    return [f"src/{name}/CMakeLists.txt: {name} depends on itself" for name in laws if reaches(name, name, set())]


def includes(file):
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1), match.group(2)


def sources(*folders):
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in (".h", ".cc", ".c", ".cpp", ".cu") and "build" not in file.parts:
                yield file


def check(file, laws):
    where = file.relative_to(ROOT)
    top = where.parts[0]
    own = where.parts[1] if top == "src" else None
    for number, quote, path in includes(file):
        first = path.split("/")[0]
        said = f"{where}:{number}: "
        if where.suffix == ".h" and HEAVY.match(path) and not TEST_HELPER.search(where.name):
            yield said + f"<{path}> is heavy: include it in one .cc"
        if path == "liburing.h" and own != "io":
            yield said + "liburing is for src/io only"
        if quote == "<" or first == "memkv":
            continue
        if top == "include":
            yield said + f'"{path}": public headers include only memkv/'
        elif top in OUTSIDE_SRC:
            if first in laws and first not in OUTSIDE_SRC[top]:
                yield said + f'"{path}": {top} may include {" ".join(["include/memkv", *OUTSIDE_SRC[top]])}'
        elif first not in laws:
            yield said + f'"{path}": write the path from src/ ("module/file.h")'
        elif first != own and first not in laws.get(own, ()):
            yield said + f'"{path}": {own} may include {" ".join(sorted(laws.get(own, ()))) or "nothing else"}'


def main():
    laws = modules()
    errors = circles(laws)
    for file in sources("include", "src", "plugins", "bindings"):
        errors += check(file, laws)
    print("\n".join(errors) if errors else f"include law: ok ({len(laws)} modules)")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
