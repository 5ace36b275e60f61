#!/usr/bin/env python3
"""replay_writes.py LOG TARGET MARK: brings a drive into the state that a power cut at MARK leaves.

LOG is the log device of a dm-log-writes target (Linux, Documentation/admin-guide/device-mapper/log-writes.rst), TARGET
gets its writes up to the mark. dm-log-writes puts a write into its log only when it was durable: when it was forced
(FUA), or when a flush that began after it completed. So everything that lay in a volatile cache is lost.
"""

import os
import struct
import sys

MAGIC = 0x6A736677736872
DISCARD, MARK = 4, 8
SUPER = struct.Struct("<QQQI")
ENTRY = struct.Struct("<QQQQ")


def replay(log, target, mark):
    """Returns the number of writes; raises KeyError where the mark is not in the log."""
    magic, _, entries, sector_bytes = SUPER.unpack(log.read(SUPER.size))
    assert magic == MAGIC, "not a log of dm-log-writes"
    position, writes = sector_bytes, 0
    for _ in range(entries):
        log.seek(position)
        head = log.read(sector_bytes)
        sector, count, flags, length = ENTRY.unpack_from(head)
        position += sector_bytes
        if flags & MARK:
            if head[ENTRY.size:ENTRY.size + length].rstrip(b"\0").decode() == mark:
                return writes
        elif not flags & DISCARD and count:
            target.seek(sector * sector_bytes)
            target.write(log.read(count * sector_bytes))
            position += count * sector_bytes
            writes += 1
    raise KeyError(mark)


def main():
    log_path, target_path, mark = sys.argv[1:]
    with open(log_path, "rb") as log, open(target_path, "r+b") as target:
        print(f"replayed {replay(log, target, mark)} writes up to {mark}")
        target.flush()
        os.fsync(target.fileno())


main()
