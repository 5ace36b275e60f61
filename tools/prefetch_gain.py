"""What a prefetch gains: gets of blocks that lie on a drive alone, and of others like them that were prefetched, by turns.

    .venv/bin/python tools/prefetch_gain.py [--block 1048576] [--blocks 64] [--rounds 5] [--ahead 0.3] [--dir /var/tmp]

Starts a server of build/release of its own, on a file in --dir and with a RAM tier that takes all blocks. Each block is got
once, by itself, and compared. Ratios of one run count, bare figures do not."""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "bindings/python")]
os.environ.setdefault("MEMKV_LIBRARY", str(ROOT / "build/release/lib/libmemkv.so.1"))

import memkv  # noqa: E402
from processes import DriveServer  # noqa: E402


def get(kv, keys, blocks, pool, size):
    """Seconds that a get takes, the median of all: one after the other."""
    pool[:] = bytes(len(pool))
    seconds = []
    for i, key in enumerate(keys):
        begin = time.monotonic()
        got = kv.get_into(key, memoryview(pool)[i * size : (i + 1) * size])
        seconds.append(time.monotonic() - begin)
        assert got == size
    assert all(pool[i * size : (i + 1) * size] == block for i, block in enumerate(blocks)), "wrong bytes"
    return statistics.median(seconds)


def measure(kv, options):
    """(seconds of a get from the drive, of one after a prefetch, hints taken) of each round; the first one opens connections."""
    pool = bytearray(options.blocks * options.block)
    rounds = []
    for number in range(options.rounds + 1):
        groups = [[f"{number}/{group}/{i}" for i in range(options.blocks)] for group in range(2)]
        blocks = [os.urandom(options.block) for _ in range(options.blocks)]
        for keys in groups:
            assert all(kv.put(key, block) for key, block in zip(keys, blocks))
        drive = get(kv, groups[0], blocks, pool, options.block)
        taken = sum(kv.prefetch(groups[1]))
        time.sleep(options.ahead)
        rounds.append((drive, get(kv, groups[1], blocks, pool, options.block), taken))
    return rounds[1:]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--block", type=int, default=1 << 20, help="bytes of a block")
    parser.add_argument("--blocks", type=int, default=64, help="blocks of a group")
    parser.add_argument("--rounds", type=int, default=5, help="the medians count")
    parser.add_argument("--ahead", type=float, default=0.3, help="seconds from the prefetches to their gets")
    parser.add_argument("--dir", help="where the drive's file goes; default TMPDIR or /tmp")
    options = parser.parse_args()
    mib = 2 * (options.rounds + 1) * options.blocks * options.block >> 20
    with tempfile.TemporaryDirectory(dir=options.dir) as folder:
        server = DriveServer(folder, tier_size=f"{mib + mib // 4 + 64}MiB", drive_size=f"{2 * mib + 256}MiB")
        try:
            with memkv.connect(server.address, auth_key=server.key) as kv:
                rounds = measure(kv, options)
            for number, (drive, ahead, taken) in enumerate(rounds, 1):
                print(f"round {number}: a get takes {drive * 1e3:6.2f} ms from the drive, {ahead * 1e3:6.2f} ms after a prefetch ({taken} taken), ratio {ahead / drive:.2f}")
            print(f"median: a get after a prefetch takes {statistics.median(ahead / drive for drive, ahead, _ in rounds):.2f} of the time from the drive")
            time.sleep(0.3)
            print("tier:", {name: value for name, value in server.tier().items() if "prefetch" in name or name in ("hits", "shared_reads", "misses")})
        finally:
            server.kill()


if __name__ == "__main__":
    main()
