"""The writes of one request persist concurrently: twelve drives of a limited rate take them several times as fast as one."""

import json
import os
import pathlib
import subprocess

import pytest
from processes import Server, run

RATE = 8 << 20
DRIVE_BYTES = 256 << 20
CONTROL = pathlib.Path("/sys/fs/cgroup/blkio")


def sh(*argv):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True, text=True).stdout.strip()


class LimitedDrives:
    """Loop devices over files in memory; whoever runs in `group` writes RATE bytes a second to each."""

    def __init__(self, folder, count):
        self.folder, self.count, self.paths = folder / "drives", count, []
        self.group = CONTROL / f"memkv-test-{os.getpid()}"

    def __enter__(self):
        self.folder.mkdir()
        sh("mount", "-t", "tmpfs", "tmpfs", self.folder)
        self.group.mkdir()
        for i in range(self.count):
            with open(self.folder / f"d{i}", "wb") as file:
                file.truncate(DRIVE_BYTES)
            self.paths.append(sh("losetup", "--find", "--show", "--direct-io=on", self.folder / f"d{i}"))
            number = os.stat(self.paths[-1]).st_rdev
            (self.group / "blkio.throttle.write_bps_device").write_text(f"{os.major(number)}:{os.minor(number)} {RATE}")
        return self

    def __exit__(self, *_):
        for path in self.paths:
            subprocess.run(["losetup", "--detach", path], capture_output=True)
        subprocess.run(["umount", "--lazy", str(self.folder)], capture_output=True)
        self.group.rmdir()

    def serve(self, folder, count):
        drives = [word for path in self.paths[:count] for word in ("--drive", path)]
        made = run("memkv", "setup", *drives, "--force", "--shards", 1, "--auth-key-file", folder / f"{count}.key", cwd=folder)
        assert made.code == 0, made
        config = folder / f"{count}.yaml"
        config.write_bytes(made.out)
        limited = ("sh", "-c", f'echo $$ > {self.group}/cgroup.procs; exec "$0" "$@"')
        return Server(folder, "--config", config, prefix=limited), f"@{folder}/{count}.key"


def write_rate(server, key, report, batch, block):
    done = run("memkv-bench", "nixl", "--servers", server.address, "--auth-key", key, "--op_type", "WRITE", "--keys", "distinct", "--start_block_size", block,
               "--max_block_size", block, "--start_batch_size", batch, "--max_batch_size", batch, "--num_iter", 1, "--warmup_iter", 0, "--no-client",
               "--no_check_consistency", "--json", report)
    assert done.code == 0, done
    return json.loads(report.read_text())["runs"][0]["logical_gib_per_s"]


def rate_of(drives, folder, count, batch, block):
    server, key = drives.serve(folder, count)
    try:
        return write_rate(server, key, folder / "report.json", batch, block)
    finally:
        server.kill()


def test_writes_persist_concurrently_over_twelve_drives(tmp_path):
    if os.geteuid() != 0 or not CONTROL.is_dir():
        pytest.fail("needs root, and the blkio control group to limit the drives' rate")
    with LimitedDrives(tmp_path, 12) as drives:
        # 16 blocks over 12 drives: two on some, so that 8 is the most that can be. What else the machine does can only slow twelve drives down.
        for batch, block, on_one, at_least in ((16, "2MiB", 16, 7), (32, "1MiB", 32, 8), (2048, "64KiB", 256, 8)):
            one = rate_of(drives, tmp_path, 1, on_one, block)
            assert one * (1 << 30) < 1.5 * RATE, f"the drive is not limited: {one} GiB/s"
            tries = []
            while len(tries) < 4 and max(tries, default=0) < at_least:
                tries.append(rate_of(drives, tmp_path, 12, batch, block) / one)
            print(f"{batch} blocks of {block}: twelve drives {max(tries):.1f} x one")
            assert max(tries) >= at_least, (batch, block, tries)
