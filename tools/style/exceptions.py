"""tools/style_exceptions.txt: what may be above a limit for now, how far, and why.

A line is `RULE  NAME  NUMBER  REASON`; NUMBER is `-` where the rule counts nothing.
"""
import math
from dataclasses import dataclass

LIST = "tools/style_exceptions.txt"


@dataclass
class Entry:
    rule: str
    what: str
    limit: float | None
    reason: str
    line: int


def read(file):
    """The list's entries; none where there is no list."""
    entries = []
    for number, line in enumerate(file.read_text().splitlines() if file.exists() else [], 1):
        if not line.strip() or line.startswith("#"):
            continue
        parts = line.split(None, 3)
        if len(parts) < 4:
            raise SystemExit(f"{file}:{number}: an exception is RULE NAME NUMBER REASON")
        entries.append(Entry(parts[0], parts[1], None if parts[2] == "-" else float(parts[2]), parts[3], number))
    return entries


def is_allowed(entries, found):
    return any((e.rule, e.what) == (found.rule, found.what) and not beyond(found, e.limit) for e in entries)


def apply(entries, findings):
    """Lines for a reader: what is above a limit without an exception, and exceptions that nothing needs."""
    allowed = {(e.rule, e.what): e for e in entries}
    left = []
    for found in findings:
        entry = allowed.get((found.rule, found.what))
        rule = f"[{found.rule} {found.what}]"
        if entry is None:
            left.append(f"{found.where}: {found.text} {rule}")
        elif beyond(found, entry.limit):
            left.append(f"{found.where}: {found.text}; {LIST} allows {entry.limit:g} and only gets tighter {rule}")
    needed = {(found.rule, found.what) for found in findings}
    left += [f"{LIST}:{e.line}: {e.rule} {e.what} needs no exception any more: delete the line"
             for key, e in allowed.items() if key not in needed]
    return left


def beyond(found, limit):
    if limit is None or found.value is None:
        return False
    return found.value < limit if found.is_floor else found.value > limit


def tighten(file, findings):
    """Writes today's numbers into the list, where they are better, and drops lines that are not needed."""
    by_key = {(f.rule, f.what): f for f in findings}
    kept = []
    for line in file.read_text().splitlines():
        parts = line.split(None, 3)
        if not parts or line.startswith("#"):
            kept.append(line)
            continue
        found = by_key.get((parts[0], parts[1]))
        if found is None:
            continue
        if parts[2] != "-":
            now = math.floor(found.value * 2 - 0.2) / 2 if found.is_floor else found.value  # shares move with every commit
            limit = max(float(parts[2]), now) if found.is_floor else min(float(parts[2]), now)
            line = line.replace(f" {parts[2]} ", f" {limit:g} ", 1)
        kept.append(line)
    file.write_text("\n".join(kept) + "\n")
