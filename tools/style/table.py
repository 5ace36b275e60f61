"""The table of ./dev house: every measure, its goal, and whether it is met."""
import statistics

import rules
import tree as measures

CLASSES_SHOWN = 8


def drawn(tree, findings, over):
    """The table as text. `over`: the rules that something breaks which is not in the list of exceptions."""
    rows = [*sizes(tree), *shares(tree), *counted(tree, findings)]
    width = max(len(row[0]) for row in rows)
    lines = [f"{'':{width}}  {'goal':>8}  {'now':>8}"]
    for name, rule, goal, now, good in rows:
        verdict = "ok" if good else "OVER" if rule in over else "over, allowed"
        lines.append(f"{name:{width}}  {goal:>8}  {now:>8}  {verdict}")
    return "\n".join(lines + ["", *largest(tree)])


def sizes(tree):
    lines = [function.lines for _, function in tree.functions()]
    files = [s.lines for s in tree.product]
    yield at_most("function lines, median", "function", rules.FUNCTION_LINES_MEDIAN, statistics.median(lines or [0]))
    yield at_most("function lines, p99", "function", rules.FUNCTION_LINES_P99, measures.percentile(lines, 0.99))
    yield at_most("function lines, max", "function", rules.FUNCTION_LINES_MAX, max(lines, default=0))
    yield at_most("file lines, p90", "file", rules.FILE_LINES_P90, measures.percentile(files, 0.9))
    yield at_most("file lines, max", "file", rules.FILE_LINES_MAX, max(files, default=0))


def shares(tree):
    yield at_least("comment lines, %", "comments", rules.COMMENT_SHARE_MIN, measures.share_of_comments(tree.product))
    yield at_least("asserts per 1,000 lines", "asserts", rules.ASSERTS_MIN, measures.asserts_per_1000(tree.product))
    for folder, least in rules.ASSERTS_MIN_OF.items():
        yield at_least(f"  of {folder}", "asserts", least, measures.asserts_per_1000(tree.part(folder)))


def counted(tree, findings):
    classes = tree.classes()
    yield at_most("methods, largest class", "methods", rules.METHODS_MAX, max((k[3] for k in classes), default=0))
    yield at_most("fields, largest class", "fields", rules.FIELDS_MAX, max((k[4] for k in classes), default=0))
    yield at_most(".cc files of a class, max", "class_files", rules.CLASS_FILES_MAX, max((k[5] for k in classes), default=0))
    yield at_most("folder circles", "circle", 0, len(tree.circles()))
    yield at_most("words used wrongly", "word", 0, sum(found.rule == "word" for found in findings))
    yield at_most("dead names", "dead", 0, sum(found.rule == "dead" for found in findings))
    yield at_most("long functions without a comment", "unexplained", 0, len(tree.unexplained()))


def at_most(name, rule, goal, now):
    return name, rule, f"<= {goal}", f"{now:g}", now <= goal


def at_least(name, rule, goal, now):
    return name, rule, f">= {goal:g}", f"{now:.1f}", now >= goal


def largest(tree):
    yield f"{'largest classes':40}  methods  fields  .cc files"
    for name, path, _, methods, fields, files in tree.classes()[:CLASSES_SHOWN]:
        over = methods > rules.METHODS_MAX or fields > rules.FIELDS_MAX or files > rules.CLASS_FILES_MAX
        yield f"{name:40}  {methods:7}  {fields:6}  {files:9}  {'over' if over else 'ok  '}  {path}"
    lines, files = sum(s.lines for s in tree.product), len(tree.product)
    yield f"\n{files} files, {lines:,} lines; tests and sim/ are not measured"
