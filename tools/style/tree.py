"""The C++ files of the tree and what is measured over them (the table of ./dev house)."""
import re
from collections import Counter, defaultdict
from pathlib import Path

import source

FOLDERS = ("include", "src", "plugins", "bindings", "tools", "sim", "tests")
MEASURED = ("include", "src", "plugins", "bindings", "tools")  # sim is a test as well, though a program of its own
TEST = re.compile(r"_(test|fuzz|bench|testing|rig)\.(cc|h)$|(^|/)(test|fake)_\w*\.h$|^tests/")
LONG_FUNCTION = 25  # lines; from here on it says in front what it is for


class Tree:
    def __init__(self, root):
        self.root = Path(root)
        files = [f for folder in FOLDERS for f in sorted((self.root / folder).rglob("*")) if f.suffix in (".h", ".cc")]
        self.sources = [source.read(str(f.relative_to(self.root)), f.read_bytes()) for f in files]
        self.product = [s for s in self.sources if is_product(s.path)]

    def part(self, folder):
        """The measured files below a folder."""
        return [s for s in self.product if s.path.startswith(folder + "/")]

    def functions(self):
        return [(s, function) for s in self.product for function in s.functions]

    def classes(self):
        """(name, file, line, methods, fields, .cc files that define its functions) of each class, the largest first."""
        files = defaultdict(set)
        for s, function in self.functions():
            if s.path.endswith(".cc"):
                files[function.scope].add(s.path)
        found = [(name_of(k.name), s.path, k.line, len(k.methods), len(k.fields), len(files[k.name]))
                 for s in self.product for k in s.classes]
        return sorted(found, key=lambda k: (-k[3] - 2 * k[4], k[0]))

    def unexplained(self):
        """Functions of 25 lines or more with a comment neither in front nor at their declaration."""
        said = {where for s in self.product for where in s.explained}
        return [(s, function) for s, function in self.functions()
                if function.lines >= LONG_FUNCTION and not function.explained
                and (function.scope, function.name) not in said]

    def circles(self):
        """Folders that include one another, each circle as a sorted tuple."""
        edges = defaultdict(set)
        for s in self.product:
            here = module_of(s.path)
            for path in s.includes:
                there = path.split("/")[0]
                if (self.root / "src" / there).is_dir() and here and there != here:
                    edges[here].add(there)
        return sorted(set(circle for circle in (circle_of(edges, name) for name in edges) if circle))

    def uses(self):
        """How often each name is used: in the tree without its tests, and in tests."""
        product, tests = Counter(), Counter()
        for s in self.sources:
            where = tests if TEST.search(s.path) else product
            for name, count in s.uses.items():
                where[name] += count
        return product, tests


def is_product(path):
    return path.split("/")[0] in MEASURED and not TEST.search(path)


def module_of(path):
    parts = path.split("/")
    return parts[1] if parts[0] == "src" else None


def name_of(scope):
    return "::".join(part for part in scope if part)


def circle_of(edges, start):
    """The circle through start: what it reaches and what reaches it. None if there is no circle."""
    def reached(name):
        seen, todo = set(), [name]
        while todo:
            for there in edges.get(todo.pop(), ()):
                if there not in seen:
                    seen.add(there)
                    todo.append(there)
        return seen

    ahead = reached(start)
    return tuple(sorted(name for name in ahead if start in reached(name))) if start in ahead else None


def share_of_comments(sources):
    """Lines that are comment alone, in percent of all that are not blank."""
    lines = sum(s.lines - s.blank_lines for s in sources)
    return 100 * sum(s.comment_lines for s in sources) / lines if lines else 100.0


def asserts_per_1000(sources):
    """MEMKV_ASSERT and MEMKV_CHECK in 1,000 lines that are not blank. What the compiler checks does not count."""
    lines = sum(s.lines - s.blank_lines for s in sources)
    return 1000 * sum(s.asserts for s in sources) / lines if lines else 0.0


def percentile(values, part):
    """The value below which `part` of the values lie; 0 if there are none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0
