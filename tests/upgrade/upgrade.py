#!/usr/bin/env python3
"""An older commit beside this tree: each opens the other's store, and each one's client talks to the other's server.

    ./dev upgrade COMMIT      its programs are built once, and kept in build/upgrade

Stores are left by a stop and by kill -9, in every direction: old to new, new to old (while the format's version is the
same; otherwise the old one has to refuse it in one line), and back. What was put last is read, what was removed is a miss,
and what one version put over a block of the other wins."""

import argparse
import hashlib
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from processes import Server, clean_environment, run, setup_store  # noqa: E402

SIZES = (1, 4096, 65536, 65537, 1 << 20, 2 << 20, (2 << 20) + 1, 5_000_000)
ROUNDS = 4  # blocks of each size


def sh(*argv, **more):
    return subprocess.run(list(map(str, argv)), check=True, text=True, **more)


def build_old(commit):
    """The programs of a commit, built once: build/upgrade/HASH/{memkv,memkv-bench}."""
    name = sh("git", "-C", ROOT, "rev-parse", f"{commit}^{{commit}}", capture_output=True).stdout.strip()
    kept = ROOT / "build/upgrade" / name
    if not (kept / "memkv-bench").exists():
        print(f"upgrade: building {name[:10]}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            tree = pathlib.Path(folder) / "tree"
            sh("git", "-C", ROOT, "worktree", "add", "--detach", tree, name, capture_output=True)
            try:
                sh(tree / "dev", "build", "release", "--target", "memkv", "memkv-bench", cwd=tree, stdout=subprocess.DEVNULL)
                kept.mkdir(parents=True, exist_ok=True)
                for program in ("memkv", "memkv-bench"):  # the one that is looked for last
                    sh("cp", tree / "build/release/bin" / program, kept)
            finally:
                sh("git", "-C", ROOT, "worktree", "remove", "--force", tree, capture_output=True)
    return kept


def content(key, version):
    seed = hashlib.blake2b(f"{key} {version}".encode(), digest_size=32).digest()
    size = SIZES[int(key.split("/")[1]) % len(SIZES)]
    return (seed * (size // len(seed) + 1))[:size]


class Side:
    """One version's programs."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder

    def memkv(self, server, command, *args, code=0, data=None, transport="tcp"):
        environment = clean_environment(MEMKV_SERVERS=server.address, MEMKV_AUTH_KEY=server.key, MEMKV_TRANSPORT=transport)
        done = run(self.folder / "memkv", command, *args, timeout=60, env=environment, stdin=data)
        assert done.code == code, f"{self.name}: {command}: {done}"
        return done.out

    def make(self, store):
        return setup_store(lambda *args: run(self.folder / "memkv", *args), store, "d0.memkv:512MiB", "d1.memkv:512MiB")

    def start(self, store, config, key):
        server = Server(store, "--config", config, program=self.folder / "memkv")
        server.key = key
        return server


class Model:
    """What the store has to hold: the newest version of each key, None where it was removed."""

    def __init__(self):
        self.versions, self.count = {}, 0

    def change(self, side, server, transport):
        """Puts over a third of the keys, removes a few, and adds some."""
        self.count += 1
        for n in range(ROUNDS * len(SIZES)):
            key = f"b/{n}"
            if key in self.versions and (n + self.count) % 3 != 0:
                continue
            if self.versions.get(key) and (n + self.count) % 9 == 0:
                side.memkv(server, "rm", key, transport=transport)
                self.versions[key] = None
            else:
                side.memkv(server, "put", key, "-", data=content(key, self.count), transport=transport)
                self.versions[key] = self.count

    def check(self, side, server, transport):
        for key, version in self.versions.items():
            if version is None:
                side.memkv(server, "get", key, code=1, transport=transport)
            else:
                got = side.memkv(server, "get", key, transport=transport)
                assert got == content(key, version), f"{side.name}: {key} has wrong bytes ({len(got)} of them)"
        return len(self.versions)


def stores(sides, folder):
    """A store goes from one version to the other and back, once stopped and once killed."""
    for end, how in ((signal.SIGTERM, "stopped"), (signal.SIGKILL, "killed")):
        for first, second in (sides, sides[::-1]):
            store = pathlib.Path(tempfile.mkdtemp(dir=folder))
            made = first.make(store)
            model, checked = Model(), 0
            for side in (first, second, first, second):
                server = side.start(store, *made)
                try:
                    checked += model.check(side, server, "tcp")
                    model.change(side, server, "tcp")
                finally:
                    os.kill(server.process.pid, end)
                    server.process.wait(60)
            yield f"a store of {first.name}, {how}, opened by {second.name}, and back: {checked} blocks as they were put"


def clients(sides, folder):
    """One version's client at the other's server, over each transport of this host."""
    for serving, asking in (sides, sides[::-1]):
        store = pathlib.Path(tempfile.mkdtemp(dir=folder))
        server = serving.start(store, *serving.make(store))
        try:
            for transport in ("tcp", "shm"):
                model = Model()
                for side in (asking, serving, asking):
                    model.change(side, server, transport)
                    checked = model.check(asking, server, transport)
                argv = [asking.folder / "memkv-bench", "sweep", "--servers", server.address, "--auth-key", server.key, "--transport", transport]
                sh(*argv, "--sizes", "4KiB,1MiB", "--bytes", "32MiB", "--no-ceiling", env=clean_environment(), capture_output=True)
                asking.memkv(server, "flush", "--yes", transport=transport)
                yield f"{asking.name}'s client at {serving.name}'s server over {transport}: {checked} blocks, and a verified sweep"
        finally:
            server.kill()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commit", help="of the older version")
    parser.add_argument("--new", type=pathlib.Path, default=ROOT / "build/release/bin", help="folder of the newer programs")
    arguments = parser.parse_args()
    sides = (Side("the old version", build_old(arguments.commit)), Side("this one", arguments.new))
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        for part in (stores, clients):
            for line in part(sides, folder):
                passed += 1
                print(f"upgrade: {line}", flush=True)
    print(f"{passed} passed, 0 failed")


if __name__ == "__main__":
    main()
