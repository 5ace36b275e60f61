#!/usr/bin/env python3
"""Draws the pictures of the documentation: docs/pictures/*.svg.

  tools/draw_pictures.py           writes them
  tools/draw_pictures.py --check   says whether the files are what this script draws

Sizes in the pictures are read from the C++ headers, so they cannot differ from the code. A text that does not fit
its box is an error here: the width of a letter is estimated, on the wide side.
"""
import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "pictures"
HEADERS = ("src/base/sizes.h", "src/format/format.h", "src/format/layout.h")


# --- sizes from the headers -------------------------------------------------------------------------------------------

class Sizes:
    """The constants of the headers by name, and the sizes of structs that a static_assert states."""

    def __init__(self):
        self.values = {}
        for name in HEADERS:
            text = (ROOT / name).read_text()
            for constant, value in re.findall(r"constexpr \w+ (k\w+)(?:\[\d*\])?\s*=\s*([^;]+);", text):
                number = self.number(value)
                if number is not None:
                    self.values[constant] = number
            for struct, value in re.findall(r"sizeof\((\w+)\) == (\d+)", text):
                self.values[struct] = int(value)

    def number(self, text):
        """An integer, or a list of them; None for an expression that is more than arithmetic."""
        text = re.sub(r"uint64_t\{(\w+)\}", r"\1", text).strip()
        text = re.sub(r"\b(?:base::)?(k\w+)\b", lambda match: str(self.values.get(match[1], match[1])), text)
        if re.fullmatch(r"\{[\d\s,*]+\}", text):
            return [eval(part) for part in text.strip("{}").split(",")]
        if not re.fullmatch(r"[\d\s*+/<>()-]+", text):
            return None
        return eval(text.replace("/", "//"))

    def __getitem__(self, name):
        if name not in self.values:
            sys.exit(f"draw_pictures.py: {name} stands in none of {', '.join(HEADERS)} any more: mend the script")
        return self.values[name]

    def text(self, name):
        return size_text(self[name])


def size_text(count):
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if count >= unit and count % unit == 0:
            return f"{count // unit} {name}"
    return f"{count} B" if count else "0"


# --- drawing ----------------------------------------------------------------------------------------------------------

INK, SOFT, LINE = "#1f2937", "#4b5563", "#64748b"
BLUE, GREEN, AMBER, GREY, ROSE, VIOLET = "#dbeafe", "#dcfce7", "#fef3c7", "#f1f5f9", "#ffe4e6", "#ede9fe"
WHITE = "#ffffff"
LETTER = 0.55  # width of a letter by its size


class Picture:
    def __init__(self, name, width, height, title, what):
        self.name, self.width, self.height = name, width, height
        self.parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img" font-family="system-ui, \'Segoe UI\', \'DejaVu Sans\', Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            f"<desc>{escape(what)}</desc>",
            '<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8"'
            f' orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="{LINE}"/></marker></defs>',
            f'<rect width="{width}" height="{height}" rx="10" fill="#ffffff" stroke="#d0d7de"/>',
        ]

    def text(self, x, y, text, size=13, color=INK, anchor="start", bold=False, room=None):
        letters = len(text) * size * LETTER * (1.08 if bold else 1)
        left = x - {"start": 0, "middle": letters / 2, "end": letters}[anchor]
        if room is not None and letters > room:
            sys.exit(f"draw_pictures.py: {self.name}: '{text}' takes {letters:.0f}, its box has {room}")
        if left < 0 or left + letters > self.width:
            sys.exit(f"draw_pictures.py: {self.name}: '{text}' leaves the picture")
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{color}" text-anchor="{anchor}"{weight}>'
                          f"{escape(text)}</text>")

    def box(self, x, y, width, height, fill, lines=(), size=12, rx=5, dash=None, bold_first=True):
        """A box with centred lines, the first one bold."""
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        self.parts.append(f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{rx}" fill="{fill}" '
                          f'stroke="{LINE}"{dashes}/>')
        step = size * 1.35
        first = y + height / 2 - step * (len(lines) - 1) / 2 + size * 0.36
        for i, line in enumerate(lines):
            self.text(x + width / 2, first + i * step, line, size, INK if i == 0 else SOFT, "middle",
                      bold_first and i == 0, width - 6)

    def frame(self, x, y, width, height, title):
        """A box with a title at its top left, for other boxes inside."""
        self.box(x, y, width, height, "#fafafa", rx=8)
        self.text(x + 12, y + 21, title, 14, bold=True, room=width - 20)

    def arrow(self, *points, dash=None, both=False):
        path = " ".join(("M" if i == 0 else "L") + f"{x:g} {y:g}" for i, (x, y) in enumerate(points))
        dashes = f' stroke-dasharray="{dash}"' if dash else ""
        start = ' marker-start="url(#tip)"' if both else ""
        self.parts.append(f'<path d="{path}" fill="none" stroke="{LINE}" stroke-width="1.5"{dashes}{start} '
                          'marker-end="url(#tip)"/>')

    def enlarged(self, left, right, y, to_left, to_right, to_y):
        """Dashed lines from a part to the place where it is drawn larger."""
        for a, b in ((left, to_left), (right, to_right)):
            self.parts.append(f'<path d="M{a:g} {y:g} L{b:g} {to_y:g}" stroke="{LINE}" stroke-dasharray="4 4" '
                              'fill="none"/>')

    def lines(self, x, y, texts, size=12, color=SOFT, anchor="start", room=None):
        for i, text in enumerate(texts):
            self.text(x, y + i * size * 1.4, text, size, color, anchor, room=room)

    def svg(self):
        return "\n".join(self.parts) + "\n</svg>\n"


def row(picture, x, y, height, cells, size=12):
    """Boxes side by side: (width, fill, lines). Returns the left edge of each, and the end."""
    edges = [x]
    for width, fill, lines in cells:
        picture.box(x, y, width, height, fill, lines, size, rx=0)
        x += width
        edges.append(x)
    return edges


# --- the pictures -----------------------------------------------------------------------------------------------------

DOTS = "2 4"  # counters and flags


def draw_threads(_):
    p = Picture("threads.svg", 980, 700, "Threads, and what passes between them",
                "A program with callers' threads and I/O contexts; a server with main, door, workers, device threads "
                "and two RDMA helper threads.")
    p.frame(20, 20, 330, 560, "a program with a Client")
    p.box(50, 60, 270, 56, BLUE, ["callers", "any thread; waits or is called back"])
    p.arrow((110, 116), (110, 208))
    p.lines(118, 152, ["Job, through a", "bounded mailbox"])
    p.arrow((270, 208), (270, 116), dash=DOTS)
    p.lines(262, 152, ["done:", "a flag"], anchor="end")
    p.box(62, 220, 262, 150, BLUE)
    p.box(50, 208, 262, 150, BLUE, ["I/O context 0 … K-1", "a thread each, with an epoll reactor", "",
                                    "places keys, splits blocks,", "makes and verifies checksums,",
                                    "retries, keeps deadlines"])
    p.box(50, 402, 270, 66, WHITE, ["Session", "the same code without a thread:", "runs when its caller drives it"],
          dash="4 3")
    p.box(50, 492, 270, 66, VIOLET, ["2 RDMA helpers, with RDMA only", "set up, tear down: calls that block;",
                                     "jobs and results through mailboxes"])

    p.frame(480, 20, 480, 560, "memkv server")
    p.box(500, 60, 190, 66, AMBER, ["door", "accepts, shakes hands,", "makes shm windows"])
    p.box(750, 60, 190, 66, AMBER, ["main", "opens drives, signals,", "membership, superblocks"])

    p.arrow((350, 93), (500, 93))
    p.lines(415, 82, ["HELLO … PROOF"], anchor="middle")

    p.arrow((560, 126), (560, 262))
    p.lines(568, 172, ["kConnection: fd,", "session keys, window,", "by the worker's mailbox"])
    p.arrow((770, 126), (770, 262))
    p.lines(762, 240, ["kDrivesOut, kStop"], anchor="end")
    p.arrow((905, 262), (905, 126), dash=DOTS)
    p.lines(897, 172, ["flags: drive", "failed, state", "(eventfd wakes)"], anchor="end")

    p.box(512, 274, 440, 140, GREEN)
    p.box(500, 262, 440, 140, GREEN, ["worker 0 … N-1", "a thread each, with a reactor (io_uring or epoll)", "",
                                      "connections, slots, and the shards of this worker:",
                                      "index, and a log on every drive. No locks:",
                                      "a worker never touches what another one has"])
    p.arrow((312, 310), (500, 310))
    p.lines(415, 298, ["OPS over", ], anchor="middle")
    p.lines(415, 326, ["tcp, shm or rdma"], anchor="middle")
    p.arrow((500, 346), (324, 346))
    p.lines(415, 364, ["REPLY"], anchor="middle")

    p.arrow((560, 414), (560, 516), both=True)
    p.lines(568, 448, ["io_uring: reads", "and writes"])
    p.arrow((720, 414), (720, 440), both=True)
    p.box(672, 440, 132, 48, WHITE, ["device threads", "with epoll only"], dash="4 3")
    p.arrow((720, 488), (720, 516), both=True)
    p.arrow((880, 414), (880, 440), both=True)
    p.box(818, 440, 132, 48, VIOLET, ["2 RDMA helpers", "with RDMA only"])
    p.box(500, 516, 304, 46, GREY, ["drive 0 … D-1", "each has one slice a shard"])

    p.text(30, 612, "What threads share", 13, bold=True)
    p.arrow((30, 634), (80, 634))
    p.text(90, 638, "a bounded mailbox, or a connection: what is sent belongs to the receiver from then on", 12, SOFT)
    p.arrow((30, 656), (80, 656), dash=DOTS)
    p.text(90, 660, "atomic flags; relaxed counters too, which the worker that answers STATUS reads of all workers", 12,
           SOFT)
    p.text(90, 682, "Beside that only immutable snapshots. No mutex in shard, engine or transport.", 12, SOFT)
    return p


def draw_drive(sizes):
    sector, chunk = sizes.text("kSectorBytes"), sizes.text("kChunkBytes")
    p = Picture("drive.svg", 980, 520, "A drive: superblocks, slices, anchors, segments",
                "A drive begins with two superblocks; slices follow, one a shard; a slice has two anchors and a ring "
                "of segments.")
    p.text(30, 36, "A drive (not to scale)", 15, bold=True)
    places = sizes["kSuperblockOffsets"]
    slices = sizes["kSlicesOffset"]
    e = row(p, 30, 64, 60, [
        (120, BLUE, ["superblock A", size_text(sizes["Superblock"])]),
        (60, WHITE, []),
        (120, BLUE, ["superblock B", size_text(sizes["Superblock"])]),
        (60, WHITE, []),
        (140, GREEN, ["slice", "shard 0"]),
        (140, GREEN, ["slice", "shard 1"]),
        (140, WHITE, ["…"]),
        (140, GREEN, ["slice", "shard S-1"]),
    ])
    for x, place in ((e[0], places[0]), (e[2], places[1]), (e[4], slices)):
        p.text(x, 57, size_text(place), 12, SOFT)
    p.text(e[8], 57, f"one slice for each of the store's shards (at most {sizes['kShardsMax']}), all of one size", 12,
           SOFT, "end")

    p.enlarged(e[5], e[6], 124, 30, 950, 200)
    p.text(230, 190, "A slice, larger", 15, bold=True)
    ring, newest, oldest = 8, 17, 13
    cells = [(76, AMBER, ["anchor A", size_text(sizes["Anchor"])]), (76, AMBER, ["anchor B", size_text(sizes["Anchor"])])]
    for position in range(ring):
        epoch = next((n for n in range(oldest, newest + 1) if n % ring == position), None)
        words = {None: ["free"], oldest: [f"epoch {oldest}", "oldest"], newest: [f"epoch {newest}", "newest, open"]}
        fill = {None: WHITE, newest: BLUE, oldest: ROSE}.get(epoch, GREEN)
        cells.append((96, fill, words.get(epoch, [f"epoch {epoch}", "sealed"])))
    e = row(p, 30, 200, 60, cells)
    for position in range(ring):
        p.text((e[position + 2] + e[position + 3]) / 2, 278, f"segment {position}", 12, SOFT, "middle")
    following = (e[2 + (newest + 1) % ring] + e[3 + (newest + 1) % ring]) / 2
    eldest = (e[2 + oldest % ring] + e[3 + oldest % ring]) / 2
    p.arrow((following, 324), (following, 288))
    p.text(following, 342, f"epoch {newest + 1} comes here", 12, INK, "middle")
    p.arrow((eldest, 324), (eldest, 288))
    p.text(eldest, 342, "reclaim takes this one next", 12, INK, "middle")

    p.lines(30, 384, [
        "Superblock: ids of store and drive, which drives are members and still in, namespaces, the drive's life. Of "
        "the two copies",
        "the valid one with the higher write counter counts.",
        "Anchor: the sequences that the shard reserved, how far the log is complete, its oldest epoch, and where it was "
        "cut. Two copies.",
        f"The segments are one log, a ring: epoch e lies in segment e mod {ring} here. Live epochs are one run, oldest "
        "to newest.",
        f"A segment has {size_text(2 * sizes['kSectorBytes'])} + k × ({chunk} + {sector}), k from 1 to "
        f"{sizes['kSegmentChunksMax']}: the largest k that leaves {sizes['kSegmentsWanted']} segments a log.",
        f"A drive that has no room for {sizes['kSegmentsMin']} segments a log is refused.",
        "In memory mode there are no superblocks and no anchors; segments and extents lie in memory the same way.",
    ])
    return p


def draw_segment(sizes):
    sector, chunk, grain = sizes.text("kSectorBytes"), sizes.text("kChunkBytes"), sizes.text("kGrainBytes")
    pack = size_text(sizes["kPackBytes"])
    p = Picture("segment.svg", 980, 700, "A segment and its extents",
                "A segment has a header, extents and a footer. One extent with small records and one with a large "
                "record are drawn larger, and the footer.")
    p.text(30, 38, "A segment (not to scale): written once, front to back", 15, bold=True)
    top = row(p, 30, 54, 62, [
        (100, AMBER, ["segment", "header", sector]),
        (150, GREEN, ["extent", "small records"]),
        (170, BLUE, ["extent", "one large record"]),
        (70, GREEN, ["extent"]),
        (70, BLUE, ["extent"]),
        (110, VIOLET, ["closing", "mark", sector]),
        (110, WHITE, ["unused"]),
        (140, ROSE, ["footer", f"≥ {sector}"]),
    ])
    p.text(top[5], 136, "an extent without records", 12, SOFT)
    p.text(top[8], 136, "what lies here", 12, SOFT, "end")

    # Small records.
    y = 206
    p.enlarged(top[1], top[2], 116, 30, 950, y)
    p.text(120, y - 10, f"An extent of small records (at most {grain} each), larger", 14, bold=True)
    e = row(p, 30, y, 62, [
        (100, GREEN, ["extent header", size_text(sizes["ExtentHeader"])]),
        (110, AMBER, ["record 1"]),
        (110, AMBER, ["record 2"]),
        (60, AMBER, ["…"]),
        (60, WHITE, ["zeros"]),
        (100, VIOLET, ["note"]),
        (120, BLUE, ["payload 1"]),
        (80, BLUE, ["payload 2"]),
        (60, WHITE, ["gap"]),
        (120, BLUE, ["payload 3"]),
    ])
    p.arrow((e[0], y + 78), (e[6], y + 78), both=True)
    p.text((e[0] + e[6]) / 2, y + 96, f"header: one or more sectors of {sector}, with one checksum", 12, SOFT, "middle")
    p.arrow((e[6], y + 78), (e[10], y + 78), both=True)
    p.text((e[6] + e[10]) / 2, y + 96, "payloads", 12, SOFT, "middle")
    note, entry = size_text(sizes["ExtentNote"]), size_text(sizes["NoteEntry"])
    p.lines(30, y + 120, [
        "Segment header: store, drive, shard, own place, epoch, the oldest live epoch, checksum of the header before.",
        "Extent header: epoch, own place, checksum of the header before (the chain), up to where all before it was "
        "complete.",
        f"Record: a header of {size_text(sizes['RecordHeader'])} (digest, sequence, kind, place of the payload), the "
        "key, a checksum for each grain.",
        f"Note: {note} and {entry} for each record of the extent before: what has to be dead if that extent is lost.",
        f"A payload begins at a multiple of {pack}, one whose size is a multiple of {sector} at a multiple of {sector}.",
    ])

    # A large record.
    y = 446
    p.text(30, y - 10, f"An extent of one large record (more than {grain}, at most {chunk})", 14, bold=True)
    e = row(p, 30, y, 62, [
        (190, GREEN, ["header", f"one sector: {sector}"]),
        (150, BLUE, ["grain 0", grain]),
        (150, BLUE, ["grain 1", grain]),
        (150, BLUE, ["…", f"up to {sizes['kChunkBytes'] // sizes['kGrainBytes']} grains"]),
        (150, BLUE, ["last grain", f"1 B to {grain}"]),
        (130, WHITE, ["unused", "rest of sector"]),
    ])
    p.lines(30, y + 82, [
        "The sector before the payload holds the extent header and the record with its grain checksums. A read of a "
        "range finds them there:",
        "it reads the whole grains that cover the range, and this sector. Header and payload are one write.",
    ])

    # The footer.
    y = 584
    p.text(30, y - 10, "The footer: ends at the segment's end", 14, bold=True)
    row(p, 30, y, 52, [
        (330, ROSE, ["record headers of the whole segment", "and the contents of heads"]),
        (110, WHITE, ["zeros"]),
        (190, ROSE, ["trailer", size_text(sizes["FooterTrailer"])]),
    ])
    p.lines(30, y + 74, ["Recovery and reclaim read the footer alone where they can: it names all that is in the "
                         "segment. Trailer: epoch, end of the chain,", "end of the data, highest sequence, checksum."])
    return p


# --- the command ------------------------------------------------------------------------------------------------------

def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    sizes = Sizes()
    pictures = [draw(sizes) for draw in (draw_threads, draw_drive, draw_segment)]
    FOLDER.mkdir(exist_ok=True)
    names = {p.name for p in pictures}
    wrong = [str(f.relative_to(ROOT)) for f in FOLDER.iterdir() if f.name not in names]
    for p in pictures:
        file = FOLDER / p.name
        if check:
            if not file.exists() or file.read_text() != p.svg():
                wrong.append(str(file.relative_to(ROOT)))
        else:
            file.write_text(p.svg())
    if check and wrong:
        print("\n".join(f"{name}: not what tools/draw_pictures.py draws (./dev pictures)" for name in wrong))
        return 1
    print(f"pictures: ok ({len(pictures)} files)" if check else f"pictures: {len(pictures)} drawn")
    return 0


if __name__ == "__main__":
    sys.exit(main())
