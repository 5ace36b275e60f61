#!/usr/bin/env python3
"""What the documentation says of the code, checked against the tree.

  - Code words of docs/reading-guide.md and docs/eviction.md: a word with a slash is a file or a folder that is there;
    a word that ends in () is a function. A function is defined (or declared, in a header) in the last file that is
    named before it in its paragraph, list item or table row. `Name::f()` says which class it belongs to.
  - A path of the tree in any page of docs/ is a file or a folder that is there (decisions/ tell of their own time).
  - Constants (kName) in the pictures are constants of src/.
  - Links of all pages lead to files that are there, and to headings that they have.
  - docs/decisions/README.md has a row for each page of decisions, and no number below the highest is unaccounted for.
  - Lines of the pages are shorter than 120 characters, but for tables, code and links that cannot be broken.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = ("reading-guide.md", "eviction.md")
LINE_MAX = 119
TREE = ("src/", "include/", "plugins/", "bindings/", "tools/", "sim/", "tests/", "docs/", "cmake/")
CODE = re.compile(r"`([^`\n]+)`")
FUNCTION = re.compile(r"(?:(?:\w+::)*(\w+)::)?(~?\w+)\(\)")
KEYWORDS = r"(?!\s*(?:return|else|if|while|for|switch|case|co_return)\b)"


def paragraphs(text):
    """(line number, text) of each paragraph, list item and table row; code blocks are left out."""
    start, lines, fenced = 0, [], False
    for number, line in enumerate([*text.splitlines(), ""], 1):
        fence = line.startswith("```")
        fenced ^= fence
        begins = re.match(r"\s*(?:[*-]|\d+\.) |\||#", line)
        if (not line.strip() or begins or fence or fenced) and lines:
            yield start, " ".join(lines)
            lines = []
        if line.strip() and not fence and not fenced:
            start = start if lines else number
            lines.append(line.strip())


def has_function(file, owner, name):
    text = file.read_text(errors="replace")
    if file.suffix == ".py":
        return re.search(rf"^\s*def {re.escape(name)}\(", text, re.M) is not None
    called = rf"{re.escape(name)}\("
    if owner:
        inside = re.search(rf"\b(?:class|struct) {owner}\b[^;]*\{{", text)
        if re.search(rf"^{KEYWORDS}[^\n/]*\b{owner}::{called}", text, re.M):
            return True
        if inside is None:
            return False
        text = text[inside.start() : text.find("\n};", inside.start())]
    # A definition or a declaration: a type stands before the name (a constructor has none).
    typed = re.search(rf"^{KEYWORDS} {{0,4}}[\w:<>,&*~\[\] ]*[\w>&*\]][ &*]+{called}", text, re.M)
    return typed is not None or (owner == name and re.search(rf"^ *(?:explicit )?{called}", text, re.M) is not None)


def check_names(page):
    for number, text in paragraphs(page.read_text()):
        file = None
        for word in CODE.findall(text):
            where = f"{page.relative_to(ROOT)}:{number}:"
            function = FUNCTION.fullmatch(word)
            if word.startswith(TREE):
                file = ROOT / word
                if not file.exists():
                    yield f"{where} {word} is not there"
                    file = None
            elif function and file is not None and file.is_file() and not has_function(file, *function.groups()):
                yield f"{where} {file.relative_to(ROOT)} has no {word}"
            elif function and (file is None or not file.is_file()):
                yield f"{where} {word}: no file is named before it"


def check_paths(page):
    for number, text in paragraphs(page.read_text()):
        for word in CODE.findall(text):
            if word.startswith(TREE) and re.fullmatch(r"[\w./-]+", word) and not (ROOT / word).exists():
                yield f"{page.relative_to(ROOT)}:{number}: {word} is not there"


def slug(heading):
    """The anchor that a heading has on the usual forges."""
    text = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", lambda match: match[1] or "", heading.strip().lower())
    return re.sub(r" ", "-", re.sub(r"[^\w\- ]", "", text))


def anchors(page):
    return {slug(line.lstrip("#")) for line in page.read_text().splitlines() if line.startswith("#")}


def check_links(page):
    for number, line in enumerate(page.read_text().splitlines(), 1):
        for target in re.findall(r"\]\(([^)\s]+)\)", line):
            if re.match(r"\w+:", target):
                continue
            name, _, anchor = target.partition("#")
            file = (page.parent / name).resolve() if name else page
            where = f"{page.relative_to(ROOT)}:{number}:"
            if not file.exists():
                yield f"{where} {target} is not there"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file):
                yield f"{where} {name or page.name} has no heading #{anchor}"


def check_lines(page):
    fenced = False
    for number, line in enumerate(page.read_text().splitlines(), 1):
        fenced ^= line.startswith("```")
        if len(line) > LINE_MAX and not fenced and not line.startswith("|") and " " in line.strip():
            yield f"{page.relative_to(ROOT)}:{number}: {len(line)} characters, at most {LINE_MAX}"


def check_decisions():
    """Each page has one row in the index; a number without a page stands in the line of those that were never given."""
    folder = ROOT / "docs/decisions"
    pages = [page.name for page in sorted(folder.glob("[0-9][0-9][0-9][0-9]-*.md"))]
    if not pages:
        return
    index = folder / "README.md"
    where = f"{index.relative_to(ROOT)}:"
    text = index.read_text() if index.exists() else ""
    rows = re.findall(r"^\| \[(\d{4})\]\(([^)]+)\) \|", text, re.M)
    for name in pages:
        if rows.count((name[:4], name)) != 1:
            yield f"{where} has not one row for {name}"
    for number, name in rows:
        if name not in pages:
            yield f"{where} {number} has no page {name}"
    closed = re.search(r"^\*\*Never given: ([\d, ]+)\.\*\*", text, re.M)
    closed = set(re.findall(r"\d{4}", closed[1])) if closed else set()
    used = [name[:4] for name in pages]
    for number in sorted({number for number in used if used.count(number) > 1}):
        yield f"{where} two pages have the number {number}"
    for number in (f"{i:04}" for i in range(1, int(used[-1]) + 1)):
        if (number in used) == (number in closed):
            yield f"{where} {number} is " + ("a page, and said to be never given" if number in used else "not accounted for")


def check_pictures():
    constants = set()
    for file in [*ROOT.glob("src/**/*.h"), *ROOT.glob("src/**/*.cc")]:
        constants.update(re.findall(r"\bk[A-Z]\w+", file.read_text(errors="replace")))
    for picture in sorted(ROOT.glob("docs/pictures/*.svg")):
        for word in set(re.findall(r"\bk[A-Z]\w+", picture.read_text())) - constants:
            yield f"{picture.relative_to(ROOT)}: src/ has no {word}"


def main():
    pages = sorted((ROOT / "docs").glob("*.md"))
    errors = []
    for page in pages:
        errors += check_names(page) if page.name in NAMES else check_paths(page)
    errors += check_pictures()
    errors += check_decisions()
    for page in [*pages, *sorted((ROOT / "docs").glob("*/*.md")), *sorted(ROOT.glob("*.md"))]:
        errors += check_links(page)
    for page in [*pages, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]:
        errors += check_lines(page)
    print("\n".join(errors) if errors else f"docs: ok ({len(pages)} pages)")
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
