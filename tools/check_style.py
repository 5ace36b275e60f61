#!/usr/bin/env python3
"""The house style where a script can tell: sizes, comments, asserts, words, dead names (docs/decisions/0032).

usage: check_style.py            what is above a limit and not in tools/style_exceptions.txt; status 1 when there is any
       check_style.py --table    every measure beside its goal (./dev house)
       check_style.py --tighten  lowers the ceilings of the exceptions to today's numbers and drops what is not needed
       --root FOLDER             another tree
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "style"))
try:
    import exceptions
    import rules
    import table
    from tree import Tree
except ModuleNotFoundError as missing:
    sys.exit(f"check_style: {missing.name} is not there: run ./dev setup")


def main(words=None):
    arguments = argparse.ArgumentParser(usage=__doc__)
    arguments.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    arguments.add_argument("--table", action="store_true")
    arguments.add_argument("--tighten", action="store_true")
    options = arguments.parse_args(words)

    tree = Tree(options.root)
    findings = list(rules.check(tree))
    file = options.root / "tools/style_exceptions.txt"
    entries = exceptions.read(file)
    if options.table:
        print(table.drawn(tree, findings, {f.rule for f in findings if not exceptions.is_allowed(entries, f)}))
        return 0
    if options.tighten:
        exceptions.tighten(file, findings)
        return 0
    left = exceptions.apply(entries, findings)
    print("\n".join(left) if left else f"style: ok ({len(tree.product)} files)")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
