"""The limits of the house style and what breaks them.

A rule yields findings. A finding with a number may stand in the list of exceptions with a ceiling (for shares: a floor).
"""
import re
from dataclasses import dataclass

import tree as measures
import words

METHODS_MAX = 40
FIELDS_MAX = 20
CLASS_FILES_MAX = 5
FUNCTION_LINES_MAX = 99
FUNCTION_LINES_P99 = 69
FUNCTION_LINES_MEDIAN = 6
FILE_LINES_MAX = 499
FILE_LINES_P90 = 299
COMMENT_SHARE_MIN = 15.0
ASSERTS_MIN = 10.0
ASSERTS_MIN_OF = {"src/engine": 15.0, "src/shard": 15.0, "src/client": 15.0}


@dataclass
class Finding:
    """`what` names the offender as the list of exceptions does. `value` is None where there is nothing to count."""
    rule: str
    what: str
    where: str
    text: str
    value: float | None = None
    is_floor: bool = False


def check(tree):
    """All that is above a limit, exceptions not yet taken out."""
    for rule in (unread, classes, functions, files, comments, asserts, idle_asserts, unexplained, circles, words_used, dead,
                 dead_headers):
        yield from rule(tree)


def unread(tree):
    for s in tree.product:
        if s.unread:
            yield Finding("unread", s.path, f"{s.path}:{s.unread[0]}",
                          "the style check cannot read this: what it hides is not measured (tools/style/source.py)")


def classes(tree):
    for name, path, line, methods, fields, files in tree.classes():
        where = f"{path}:{line}"
        if methods > METHODS_MAX:
            yield Finding("methods", name, where, f"{name} has {methods} methods; at most {METHODS_MAX}", methods)
        if fields > FIELDS_MAX:
            yield Finding("fields", name, where, f"{name} has {fields} fields; at most {FIELDS_MAX}", fields)
        if files > CLASS_FILES_MAX:
            yield Finding("class_files", name, where,
                          f"{name} is spread over {files} .cc files; at most {CLASS_FILES_MAX}", files)


def functions(tree):
    for s, function in tree.functions():
        if function.lines > FUNCTION_LINES_MAX:
            name = measures.name_of(function.scope + (function.name,))
            yield Finding("function", name, f"{s.path}:{function.line}",
                          f"{name} has {function.lines} lines; at most {FUNCTION_LINES_MAX}", function.lines)
    p99 = measures.percentile([function.lines for _, function in tree.functions()], 0.99)
    if p99 > FUNCTION_LINES_P99:
        yield Finding("function", "p99", "tree", f"one function in 100 has {p99} lines or more; at most "
                      f"{FUNCTION_LINES_P99}", p99)


def files(tree):
    for s in tree.product:
        if s.lines > FILE_LINES_MAX:
            yield Finding("file", s.path, s.path, f"{s.lines} lines; at most {FILE_LINES_MAX}", s.lines)
    p90 = measures.percentile([s.lines for s in tree.product], 0.9)
    if p90 > FILE_LINES_P90:
        yield Finding("file", "p90", "tree", f"one file in ten has {p90} lines or more; at most {FILE_LINES_P90}", p90)


def comments(tree):
    share = measures.share_of_comments(tree.product)
    if share < COMMENT_SHARE_MIN:
        yield Finding("comments", "tree", "tree", f"{share:.1f} % of the lines are comments; at least "
                      f"{COMMENT_SHARE_MIN:.0f} %", share, is_floor=True)


def asserts(tree):
    for folder, least in [("tree", ASSERTS_MIN), *ASSERTS_MIN_OF.items()]:
        sources = tree.product if folder == "tree" else tree.part(folder)
        share = measures.asserts_per_1000(sources)
        if sources and share < least:
            yield Finding("asserts", folder, folder, f"{share:.1f} asserts in 1,000 lines; at least {least:.0f} "
                          "(that can fail: state what a caller or a former step must have done)", share, is_floor=True)


def idle_asserts(tree):
    """Asserts of constants. Only a reader can find other asserts that cannot fail."""
    for s in tree.product:
        for line in s.idle_asserts:
            yield Finding("idle_assert", s.path, f"{s.path}:{line}", "this assert cannot fail; the compiler can check it")


def unexplained(tree):
    """One finding for each folder, since a list of all functions would be too long to be useful."""
    by_folder = {}
    for s, function in tree.unexplained():
        by_folder.setdefault(folder_of(s.path), []).append((s, function))
    for folder, found in sorted(by_folder.items()):
        listed = ", ".join(f"{s.path}:{f.line} {f.name}" for s, f in found)
        yield Finding("unexplained", folder, folder, f"functions of {measures.LONG_FUNCTION} lines or more that do not "
                      f"say what they are for: {listed}", len(found))


def folder_of(path):
    return "/".join(path.split("/")[:2])


def circles(tree):
    for circle in tree.circles():
        yield Finding("circle", " ".join(circle), "src", f"these folders include one another: {' '.join(circle)}")


def words_used(tree):
    for s in tree.product:
        for line, word, say in words.wrong(s):
            yield Finding("word", f"{s.path}:{word}", f"{s.path}:{line}", f"'{word}': {say}")


# Names that the standard library or a foreign interface asks for, and fields that are there to fill a layout.
ASKED_FOR = re.compile(r"^(reserved\w*|padding\w*|result_type|rep|value_type|iterator_category|XXH_\w+|_\w+)$")


def own_files(tree):
    """Files of ours whose names a program outside does not use, and not those of tests."""
    for s in tree.sources:
        if not measures.TEST.search(s.path) and not s.path.startswith("include/"):
            if s.path not in words.FOREIGN and s.path not in words.FOR_TESTS:
                yield s


def dead_headers(tree):
    """Headers that only tests include."""
    included = {path for s in tree.sources if not measures.TEST.search(s.path) for path in s.includes}
    for s in own_files(tree):
        if s.path.endswith(".h") and not any(s.path == path or s.path.endswith("/" + path) for path in included):
            yield Finding("dead", s.path, s.path, "nobody but tests includes this header: delete it")


def dead(tree):
    """What a header or a class declares and no file names again. By name alone: one use of `size` keeps each `size` alive."""
    product, tests = tree.uses()
    foreign = {d.name for s in tree.sources if s.path in words.FOREIGN for d in s.declared}
    for s in own_files(tree):
        in_header = s.path.endswith(".h")
        for d in s.declared:
            if not in_header and d.sort not in ("method", "field"):  # of the rest the compiler tells
                continue
            if product[d.name] > 0 or d.name in foreign or ASKED_FOR.match(d.name):
                continue
            text = "only tests name" if tests[d.name] > 0 else "nobody names"
            yield Finding("dead", f"{s.path}:{d.name}", f"{s.path}:{d.line}", f"{text} the {d.sort} {d.name}: delete it")

