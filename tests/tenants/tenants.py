#!/usr/bin/env python3
"""Shows what one tenant can do to another: each attack of rows B1 to B7 and A4 of the case table beside an honest tenant.

A real server with one worker and two namespaces; the honest tenant is a process that works at a steady pace through the
public client, the attacker one that writes the wire protocol itself and is held to a quarter of a CPU. In the control the
attacker is connected to nothing: it is a busy loop, held to the same quarter. A line passes when nothing of the honest
tenant failed, and its 99th percentile is at most 3 times that of the control. Exit code 1: some line did not pass.

Figures are worth something on a machine that does nothing else. --bin and --honest run it against another build
(--wire 1: one whose clients do not introduce themselves), whose client library memkv-honest is to be linked with.
"""

import argparse
import contextlib
import dataclasses
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import cgroup  # noqa: E402
import processes  # noqa: E402

QUARTER = 0.25
RATIO_MAX = 3
PROGRAMS = processes.BIN.parent / "tests"


@dataclasses.dataclass
class Row:
    case: str
    attack: str
    what: str
    index_block: str = "16KiB"
    blocks: int = 0  # of the attacker, stored before it begins
    shm_bytes: int = 64 << 20


ROWS = [
    Row("B1", "trickle", "200 puts of 2 MiB, a byte each 5 s"),
    Row("B2", "readers", "40 slow readers"),
    Row("B3", "idle", "1,024 idle connections"),
    Row("B4", "uploads", "8 x 64 uploads that never end"),
    Row("B5", "lists", "4 connections list 755,000 blocks", index_block="4KiB", blocks=755_000),
    Row("B6", "questions", "EXISTS of 16,000 keys, never read"),
    Row("B7", "fill", "blocks of one byte fill the index", index_block="64KiB"),
    Row("A4", "windows", "1,500 shm windows, each kept"),
]


@dataclasses.dataclass
class Kind:
    """What the honest tenant did of one kind: microseconds."""

    ops: int
    failures: int
    p50: float
    p99: float
    most: float
    reasons: str


class Child:
    """A process that is told by lines when to begin, and ends when its input does."""

    def __init__(self, *argv, patience, log):
        self.log = log
        with open(log, "w") as errors:
            self.process = subprocess.Popen(list(map(str, argv)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
                                            env=processes.clean_environment())
        self.patience = patience
        self.expect("ready")

    def line(self):
        timer = threading.Timer(self.patience, self.process.kill)
        timer.start()
        try:
            return self.process.stdout.readline().rstrip("\n")
        finally:
            timer.cancel()

    def expect(self, line):
        got = self.line()
        if got != line:
            raise self.trouble(got)

    def trouble(self, got):
        self.kill()
        return RuntimeError(f"{self.process.args[0]}: {got or 'ended, or said nothing in time'}\n{self.log.read_text()}")

    def go(self):
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def stop(self):
        """What it says at its end."""
        self.process.stdin.close()
        said = self.line()
        self.kill()
        return said

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


@contextlib.contextmanager
def held_to_a_quarter(child):
    """By a cgroup where one can be made, else by stopping the process three quarters of the time."""
    try:
        group = cgroup.Cgroup(cpu=QUARTER)
    except OSError:
        group = None
    if group is not None:
        with group:
            group.write("cgroup.procs", child.process.pid)
            yield
            child.kill()
        return
    over = threading.Event()

    def take_turns():
        while not over.wait(0.1 * QUARTER) and child.process.poll() is None:
            child.process.send_signal(signal.SIGSTOP)
            time.sleep(0.1 * (1 - QUARTER))
            child.process.send_signal(signal.SIGCONT)

    thread = threading.Thread(target=take_turns)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Rig:
    """One drive file and the configuration of two tenants, for one row after the other."""

    def __init__(self, folder, options):
        self.folder = pathlib.Path(folder)
        self.options = options
        self.drive = self.folder / "drive.memkv"
        self.keys = {tenant: self.folder / f"{tenant}.key" for tenant in ("honest", "attacker")}
        self.keys["attacker"].write_text(processes.DRAWN_KEY)
        self.config = self.folder / "tenants.yaml"

    def memkv(self, *args):
        subprocess.run([self.options.bin / "memkv", *map(str, args)], cwd=self.folder, check=True, capture_output=True, env=processes.clean_environment())

    def format(self, row):
        drive = self.drive if self.drive.exists() else f"{self.drive}:{self.options.drive}"
        self.memkv("setup", "--force", "--drive", drive, "--shards", 1, "--auth-key-file", self.keys["honest"])
        self.config.write_text(
            f"network:\n  auth_key: '@{self.keys['honest']}'\n"
            f"namespaces:\n  - name: attacker\n    auth_key: '@{self.keys['attacker']}'\n"
            f"storage:\n  drives:\n    - media: {self.drive}\n"
            f"memory:\n  index_block_size: {row.index_block}\n"
            f"shm:\n  dir: {self.folder}/shm\n  max_size: {row.shm_bytes}B\n"
            "workers: 1\n")

    def start(self):
        return processes.Server(self.folder, "--config", self.config, program=self.options.bin / "memkv")

    def child(self, program, *args):
        return Child(program, *args, patience=self.options.seconds + 300, log=self.folder / f"{pathlib.Path(program).name}.log")

    def honest(self, server):
        return self.child(self.options.honest, server.address, f"@{self.keys['honest']}", self.options.seconds)

    def attacker(self, row, server):
        more = [str(min(row.blocks, self.options.blocks))] if row.blocks else []
        tenant = "honest" if self.options.one_namespace else "attacker"
        return self.child(PROGRAMS / "memkv-attack", row.attack, server.address, f"@{self.keys[tenant]}", self.folder / "shm", self.options.wire, *more)


def measure(honest):
    honest.go()
    kinds = {}
    while (line := honest.line()) != "end":
        if not line:
            raise honest.trouble(line)
        name, ops, failures, p50, p99, most, reasons = line.split("\t")
        kinds[name] = Kind(int(ops), int(failures), float(p50), float(p99), float(most), reasons.strip())
    return kinds


def run_row(rig, row, control=True):
    """(kinds of the control or None, kinds beside the attack, what the attacker says of itself)"""
    rig.format(row)
    server = rig.start()
    try:
        with rig.honest(server) as honest, rig.attacker(row, server) as attacker:
            alone = None
            if control:
                with rig.child(PROGRAMS / "memkv-attack", "busy") as busy, held_to_a_quarter(busy):
                    busy.go()
                    alone = measure(honest)
            with held_to_a_quarter(attacker):
                attacker.go()
                time.sleep(rig.options.lead)
                beside = measure(honest)
                said = attacker.stop()
        return alone, beside, said
    finally:
        server.kill()


def held_bytes(said):
    """Of shared memory, by an attacker that keeps its windows; others hold none."""
    _, found, held = said.partition("held ")
    return int(held.split()[0]) << 10 if found else 0


def verdict(alone, beside):
    if alone.failures:
        return "no control"
    if beside.failures:
        return "FAILS"
    return "passes" if beside.p99 <= RATIO_MAX * alone.p99 else "SLOW"


def print_row(row, alone, beside, said):
    """Prints the lines of a row; true when all of them pass."""
    good = True
    for name, kind in beside.items():
        line = verdict(alone[name], kind)
        good = good and line == "passes"
        ratio = kind.p99 / alone[name].p99
        print(f"{row.case:4}{row.attack:11}{name:11}{kind.ops:7}{kind.failures:9}{kind.p99 / 1000:10.3f}{alone[name].p99 / 1000:10.3f}{ratio:8.2f}  {line:11}{kind.reasons}")
    print(f"    {row.attack}: {said}")
    if row.attack == "windows":
        fits = held_bytes(said) <= row.shm_bytes
        good = good and fits
        print(f"    shared memory held: {held_bytes(said) >> 20} of at most {row.shm_bytes >> 20} MiB: {'passes' if fits else 'FAILS'}")
    sys.stdout.flush()
    return good


def parse(args):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="B1 to B7, A4; all by default")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement (%(default)s)")
    parser.add_argument("--lead", type=float, default=2, help="seconds that an attack has before it is measured (%(default)s)")
    parser.add_argument("--blocks", type=int, default=10**9, help="at most so many blocks are stored for B5")
    parser.add_argument("--one-namespace", action="store_true", help="the attacker is another client of the honest one's namespace (not for B7: index entries are shared by namespace)")
    parser.add_argument("--folder", help="for the drive file and logs; a temporary one by default")
    parser.add_argument("--drive", default="4GiB", help="size of the drive file (%(default)s)")
    parser.add_argument("--bin", type=pathlib.Path, default=processes.BIN, help="folder of memkv")
    parser.add_argument("--honest", type=pathlib.Path, default=PROGRAMS / "memkv-honest", help="program of the honest tenant")
    parser.add_argument("--wire", type=int, default=2, help="wire version of that build (%(default)s)")
    options = parser.parse_args(args)
    unknown = set(options.rows) - {row.case for row in ROWS}
    if unknown:
        parser.error(f"no row {', '.join(sorted(unknown))}")
    return options


def main(args):
    options = parse(args)
    good = True
    print(f"{'row':4}{'attack':11}{'op':11}{'ops':>7}{'failures':>9}{'p99 ms':>10}{'control':>10}{'ratio':>8}  verdict")
    with tempfile.TemporaryDirectory(prefix="memkv-tenants-", dir=options.folder) as folder:
        rig = Rig(folder, options)
        for row in ROWS:
            if not options.rows or row.case in options.rows:
                good = print_row(row, *run_row(rig, row)) and good
    print("tenants: all lines pass" if good else "tenants: NOT all lines pass")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
