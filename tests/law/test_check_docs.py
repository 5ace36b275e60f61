"""tools/check_docs.py and tools/draw_pictures.py find what they are for: each test plants one fault."""
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))
import check_docs  # noqa: E402
import draw_pictures  # noqa: E402

CODE = """namespace memkv {

int Thing::turn(int times) {
  s.helped(times);
  return called(times);
}

Result<void> loose(
    int argument);

}  // namespace memkv
"""
HEADER = """struct Other {
  int turned() const { return 1; }
};

class Thing {
 public:
  explicit Thing(int turns);
  int turn(int times);
};
"""


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.setattr(check_docs, "ROOT", tmp_path)
    (tmp_path / "src").mkdir()
    (tmp_path / "docs").mkdir()
    (tmp_path / "src/thing.cc").write_text(CODE)
    (tmp_path / "src/thing.h").write_text(HEADER)
    return tmp_path


def page(tree, text):
    file = tree / "docs/page.md"
    file.write_text(text)
    return file


@pytest.mark.parametrize("text", [
    "`src/thing.cc`: `Thing::turn()` and `loose()`",
    "`src/thing.h`: `Thing::turn()`, `Thing::Thing()`, `Other::turned()`",
    "1. `src/thing.cc`:\n   `loose()`",
    "| what | `src/thing.cc`: `loose()` |",
    "`src` and `Thing` without a function",
    "```\n`src/gone.cc`\n```",
])
def test_what_is_there_is_fine(tree, text):
    assert list(check_docs.check_names(page(tree, text))) == []


@pytest.mark.parametrize("text, fault", [
    ("`src/gone.cc`", "src/gone.cc is not there"),
    ("`src/thing.cc`: `called()`", "has no called()"),
    ("`src/thing.cc`: `helped()`", "has no helped()"),
    ("`src/thing.cc`: `Other::turn()`", "has no Other::turn()"),
    ("`src/thing.h`: `Other::turn()`", "has no Other::turn()"),
    ("`turn()`", "no file is named before it"),
    ("* `src/thing.cc`\n* `loose()`", "no file is named before it"),
])
def test_what_moved_is_told(tree, text, fault):
    errors = list(check_docs.check_names(page(tree, text)))
    assert len(errors) == 1 and fault in errors[0]


def test_paths_of_other_pages(tree):
    good = page(tree, "`src/thing.cc`, `src/*.cc`, `called()`, `tests/%s.py`")
    assert list(check_docs.check_paths(good)) == []
    assert "src/gone.cc is not there" in list(check_docs.check_paths(page(tree, "(`x`, `src/gone.cc`)")))[0]


def test_links_and_lines(tree):
    good = page(tree, "# A *heading*, with `code()`\n[here](#a-heading-with-code) [there](../src/thing.cc)\n")
    assert list(check_docs.check_links(good)) + list(check_docs.check_lines(good)) == []
    bad = page(tree, "# A heading\n[a](#other) [b](gone.md)\n" + "long " * 30 + "\n| " + "long " * 30 + "|\n")
    assert len(list(check_docs.check_links(bad))) == 2
    assert len(list(check_docs.check_lines(bad))) == 1


def test_constants_in_pictures(tree):
    (tree / "docs/pictures").mkdir()
    (tree / "docs/pictures/p.svg").write_text("<text>kGone, kThere</text>")
    (tree / "src/thing.h").write_text("enum class Kind { kThere };")
    assert list(check_docs.check_pictures()) == ["docs/pictures/p.svg: src/ has no kGone"]


def test_sizes_come_from_the_headers(monkeypatch):
    sizes = draw_pictures.Sizes()
    assert sizes.number("uint64_t{2} << 20") == 2 << 20
    assert sizes.number("{0, 512 * 1024}") == [0, 512 * 1024]
    assert sizes.number("kChunkBytes / kGrainBytes") == 32
    assert sizes.number("f(1)") is None
    with pytest.raises(SystemExit, match="kGone"):
        sizes["kGone"]
    assert [draw_pictures.size_text(n) for n in (0, 64, 4096, 3 << 20)] == ["0", "64 B", "4 KiB", "3 MiB"]


def test_a_text_that_leaves_its_box_is_refused():
    picture = draw_pictures.Picture("p.svg", 200, 100, "", "")
    picture.box(10, 10, 80, 30, draw_pictures.WHITE, ["short"])
    with pytest.raises(SystemExit, match="its box"):
        picture.box(10, 10, 80, 30, draw_pictures.WHITE, ["much too long for it"])
    with pytest.raises(SystemExit, match="leaves the picture"):
        picture.text(150, 10, "out of it")


@pytest.mark.parametrize("index, says", [
    ("| [0001](0001-a.md) | a |\n| [0003](0003-c.md) | c |\n\n**Never given: 0002.**\n", None),
    ("| [0001](0001-a.md) | a |\n\n**Never given: 0002.**\n", "has not one row for 0003-c.md"),
    ("| [0001](0001-a.md) | a |\n| [0003](0003-c.md) | c |\n", "0002 is not accounted for"),
    ("| [0001](0001-a.md) | a |\n| [0003](0003-c.md) | c |\n\n**Never given: 0002, 0003.**\n", "0003 is a page, and said"),
    ("| [0001](0001-a.md) | a |\n| [0002](0002-b.md) | b |\n| [0003](0003-c.md) | c |\n\n**Never given: 0002.**\n",
     "0002 has no page"),
])
def test_the_index_of_decisions(tree, index, says):
    folder = tree / "docs/decisions"
    folder.mkdir()
    for name in ("0001-a.md", "0003-c.md"):
        (folder / name).write_text("# a page")
    (folder / "README.md").write_text(index)
    errors = list(check_docs.check_decisions())
    assert (errors == []) if says is None else (len(errors) == 1 and says in errors[0]), errors
