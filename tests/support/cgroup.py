"""A cgroup of a test's own, version 1 or 2, whichever this machine has the controllers in."""

import os
import pathlib
import signal
import time

ROOT = pathlib.Path("/sys/fs/cgroup")
V2 = (ROOT / "cgroup.controllers").exists() and "memory" in (ROOT / "cgroup.controllers").read_text().split()


class Cgroup:
    """`with Cgroup(memory=512 << 20, cpu=0.5, pids=20) as group: ... prefix=group.prefix`; removed at the end."""

    count = 0

    def __init__(self, memory=None, cpu=None, pids=None):
        Cgroup.count += 1
        name = f"memkv-test-{os.getpid()}-{Cgroup.count}"
        wanted = {"memory": memory, "cpu": cpu, "pids": pids}
        controllers = [each for each, value in wanted.items() if value is not None]
        self.folders = [ROOT / name] if V2 else [ROOT / each / name for each in controllers]
        if V2:
            (ROOT / "cgroup.subtree_control").write_text(" ".join(f"+{each}" for each in controllers))
        for folder in self.folders:
            folder.mkdir()
        period = 100_000
        if memory is not None:
            self.write("memory.max" if V2 else "memory.limit_in_bytes", memory)
        if cpu is not None and V2:
            self.write("cpu.max", f"{int(cpu * period)} {period}")
        elif cpu is not None:
            self.write("cpu.cfs_period_us", period)
            self.write("cpu.cfs_quota_us", int(cpu * period))
        if pids is not None:
            self.write("pids.max", pids)

    def file(self, name):
        return next(folder / name for folder in self.folders if (folder / name).exists())

    def write(self, name, value):
        self.file(name).write_text(str(value))

    @property
    def joins(self):
        return [word for folder in self.folders for word in ("--join", str(folder))]

    def oom_kills(self):
        lines = self.file("memory.events" if V2 else "memory.oom_control").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))

    def peak(self):
        return int(self.file("memory.peak" if V2 else "memory.max_usage_in_bytes").read_text())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in {pid for folder in self.folders for pid in (folder / "cgroup.procs").read_text().split()}:
            os.kill(int(pid), signal.SIGKILL)  # left by a test that failed
        deadline = time.monotonic() + 10
        for folder in self.folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:  # its last process is still on its way out
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)
