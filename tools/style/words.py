"""Words that mean something else here (docs/glossary.md), and where they must not stand."""
import re
from dataclasses import dataclass

# Interfaces of other projects, written down here: their names are not ours, and what they have need not be used.
FOREIGN = ("plugins/nixl/abi.h", "plugins/nixl/cudart.h")
# What stands in src/ for tests: a device that fails, and a reactor without a machine.
FOR_TESTS = ("src/io/faulty_device.h", "src/io/sim_reactor.h")


@dataclass
class Word:
    pattern: re.Pattern
    folders: tuple  # paths that start so; all where empty
    say: str


def word(pattern, say, *folders):
    return Word(re.compile(pattern), folders, say)


WORDS = [
    word(r"\bkBlock(Bytes|Size)\b|\b4[ -]KiB blocks?\b|\bdisk blocks?\b",
         "a block is the user's; 4 KiB of a drive are a sector (kSectorBytes)"),
    word(r"(?i)\w*chunk\w*", "a chunk is 2 MiB of a block; what an RDMA SEND carries is a message", "src/transport/rdma"),
    word(r"(?i)\w*segments?(?=_|\b|[A-Z])\w*", "a segment is a log's; memory of the peer is a RemotePiece",
         "src/wire", "src/transport"),
    word(r"\bSegment\b", "a segment is a log's; memory of the peer is a RemotePiece", "src/client", "src/shard"),
    word(r"\bkUnitBytes\b|\b64[ -]bytes? units?\b", "a unit is a wire op; 64 bytes on a drive are a pack"),
    word(r"(?i)\bcredit[ _]units?\b|\bunits? of credit\b|\bkCreditUnit\w*", "credit is counted in grains"),
    word(r"\b(class|struct) Server\b", "in the client it is a RemoteServer", "src/client"),
    word(r"\b(FrameOut|OutFrame)\b", "it is a ReplyFrame (shard) or a SendFrame (transport)"),
]


def wrong(source):
    """(line, word, what to say instead) of each wrong word in a file, in code and comments."""
    if source.path in FOREIGN:
        return
    laws = [w for w in WORDS if not w.folders or source.path.startswith(tuple(f + "/" for f in w.folders))]
    places = list(enumerate(source.code, 1))
    for line, text in source.comments:
        places += enumerate(text.split("\n"), line)
    for line, text in places:
        for law in laws:
            for found in law.pattern.finditer(text):
                yield line, found[0], law.say
