"""Counts the tests of a stage's JUnit file for `./dev test`, and appends what failed to a list.

usage: count_results.py STAGE RESULTS.xml FAILURES.txt; prints "PASSED FAILED SKIPPED"."""

import sys
import xml.etree.ElementTree as tree

LINES_OF_A_FAILURE = 25


def wrong(case):
    """The failure or error of a test, or None."""
    return next((case.find(kind) for kind in ("failure", "error") if case.find(kind) is not None), None)


def told(stage, case):
    """For a reader who sees only the end of a log: the test, its message, and the end of its output."""
    found = wrong(case)
    texts = [found.get("message") or "", found.text or "", case.findtext("system-out") or ""]
    lines = "\n".join(text for text in texts if text.strip()).strip().splitlines()
    kept = lines[:8] + ["..."] + lines[-LINES_OF_A_FAILURE:] if len(lines) > LINES_OF_A_FAILURE + 8 else lines
    name = ".".join(part for part in (case.get("classname"), case.get("name")) if part)
    return "\n".join([f"[{stage}] {name}", *("    " + line[:300] for line in kept)]) + "\n"


def main():
    stage, results, failures = sys.argv[1:]
    cases = list(tree.parse(results).iter("testcase"))
    failed = [case for case in cases if wrong(case) is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    with open(failures, "a", encoding="utf-8") as out:
        out.writelines(told(stage, case) for case in failed)
    print(len(cases) - len(failed) - skipped, len(failed), skipped)


if __name__ == "__main__":
    main()
