#!/usr/bin/env python3
"""House rules that a script can see, beside the include law.

  - a header starts with #pragma once; #pragma once stands nowhere else
  - plain assert() and <cassert> are not used (MEMKV_ASSERT is on in release)
  - no exceptions thrown in src/ but in server/ and admin/ (std::bad_alloc at start is let through)
  - no mutex in src/shard, src/engine, src/transport; no getenv outside src/server, src/client and tools/
  - no `using namespace` in headers
  - no file longer than 1,000 lines
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINES_MAX = 1000
FOLDERS = ("include", "src", "plugins", "bindings", "tools", "sim", "bench", "tests")
COMMENT = re.compile(r'//.*$|"(?:[^"\\]|\\.)*"')


def in_src(where, *modules):
    return where.parts[0] == "src" and (not modules or where.parts[1] in modules)


def is_test(where):
    return where.parts[0] in ("tests", "bench", "sim") or re.search(r"_(test|fuzz|bench|testing)\.(cc|h)$", where.name)


# (pattern, what is wrong, where it applies)
LAWS = [
    (r"(?<![\w.])assert\s*\(|<cassert>|<assert\.h>", "use MEMKV_ASSERT", lambda w: not is_test(w)),
    (r"\bthrow\b(?!\(| std::bad_alloc)", "no exceptions here: return a Result",
     lambda w: in_src(w) and not in_src(w, "server", "admin") and not is_test(w)),
    (r"std::(shared_|recursive_)?mutex|pthread_mutex", "no mutex here: this code has one thread",
     lambda w: in_src(w, "shard", "engine", "transport") and not is_test(w)),
    (r"\bgetenv\s*\(", "only server/, client/ and tools/ read the environment",
     lambda w: in_src(w) and not in_src(w, "server", "client") and not is_test(w)),
    (r"^\s*using namespace\b", "no `using namespace` in a header", lambda w: w.suffix == ".h"),
]


def check(file):
    where = file.relative_to(ROOT)
    lines = file.read_text(errors="replace").splitlines()
    has_once = any(line.strip() == "#pragma once" for line in lines[:20])
    if where.suffix == ".h" and not has_once and not where.name.endswith("_body.h") and "extern \"C\"" not in "\n".join(lines):
        yield f"{where}:1: header without #pragma once"
    if where.suffix == ".cc" and has_once:
        yield f"{where}:1: #pragma once in a source file"
    if len(lines) > LINES_MAX:
        yield f"{where}: {len(lines)} lines; split it (at most {LINES_MAX})"
    laws = [(re.compile(pattern), text) for pattern, text, applies in LAWS if applies(where)]
    for number, line in enumerate(lines, 1):
        bare = line if "#include" in line else COMMENT.sub("", line)
        for pattern, text in laws:
            if pattern.search(bare):
                yield f"{where}:{number}: {text}"


def main():
    files = [f for folder in FOLDERS for f in sorted((ROOT / folder).rglob("*")) if f.suffix in (".h", ".cc")]
    errors = [error for file in files for error in check(file)]
    print("\n".join(errors) if errors else f"rules: ok ({len(files)} files)")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
