"""The process and its surroundings: standard streams that are full or closed, threads, descriptors and space that are not to be had, and credentials that are none."""

import contextlib
import fcntl
import json
import os
import re
import resource
import signal
import subprocess
import time

import pytest
from conftest import BIN, DRAWN_KEY, clean_environment, run, setup_store


class FullPipe:
    """A pipe that holds all it can, and that nobody reads."""

    def __enter__(self):
        self.reader, self.writer = os.pipe()
        flags = fcntl.fcntl(self.writer, fcntl.F_GETFL)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags | os.O_NONBLOCK)
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self.writer, b"." * 4096)
        fcntl.fcntl(self.writer, fcntl.F_SETFL, flags)
        return self

    def __exit__(self, *_):
        os.close(self.reader)
        os.close(self.writer)


def sparse(path, size):
    with open(path, "wb") as file:
        file.truncate(size)


@contextlib.contextmanager
def small_tmpfs(folder, size):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


@contextlib.contextmanager
def started(folder, *args, **streams):
    """`memkv start` whose streams the test chooses."""
    ready = folder / "ready-process"
    argv = [BIN / "memkv", "start", "--address", "127.0.0.1:0", "--ready-file", ready, *args]
    process = subprocess.Popen(list(map(str, argv)), cwd=folder, env=clean_environment(), **streams)
    try:
        for _ in range(2000):
            if ready.exists() and ready.read_text().endswith("\n"):
                break
            assert process.poll() is None
            time.sleep(0.005)
        process.address = ready.read_text().strip()
        yield process
    finally:
        process.kill()
        process.wait()


def service(memkv, server, key=None):
    return json.loads(memkv("status", "--json", server=server, key=key).text)["servers"][0]["status"]["service"]


def test_case_c1_a_full_stderr_stops_nothing(memkv, tmp_path):
    with FullPipe() as pipe, started(tmp_path, "--mode", "memory", "--memory", "64MiB", "--workers", "1", stdout=pipe.writer, stderr=pipe.writer) as server:
        assert memkv("put", "k", "/etc/hostname", server=server, timeout=20).code == 0
        assert service(memkv, server)["log_lines_lost"] > 0
        server.send_signal(signal.SIGTERM)
        assert server.wait(10) == 0


def test_case_c1_a_failing_start_says_so_and_ends_though_nobody_reads(tmp_path):
    with FullPipe() as pipe:
        process = subprocess.run([BIN / "memkv", "start", "--config", "none.yaml"], cwd=tmp_path, stderr=pipe.writer, timeout=20)
        assert process.returncode == 2


def test_case_c1_streams_that_are_closed_are_no_drive_and_no_socket(memkv, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:32MiB")
    before = (tmp_path / "d0.memkv").read_bytes()[:4096]

    def close_all():
        for fd in (0, 1, 2):
            os.close(fd)

    with started(tmp_path, "--config", config, "--workers", "1", preexec_fn=close_all) as server:
        for fd in (0, 1, 2):
            assert os.readlink(f"/proc/{server.pid}/fd/{fd}") == "/dev/null"
        assert memkv("put", "k", "/etc/hostname", server=server, key=DRAWN_KEY).code == 4  # is logged, to nobody
        assert memkv("put", "k", "/etc/hostname", server=server, key=key).code == 0
    assert before[:8] == (tmp_path / "d0.memkv").read_bytes()[:8]


def test_case_c1_the_progress_of_a_benchmark_holds_nothing_up(tmp_path):
    with FullPipe() as pipe:
        done = subprocess.run([BIN / "memkv-bench", "sweep", "--own", "memory", "--sizes", "4KiB", "--bytes", "1MiB", "--no-ceiling"], cwd=tmp_path,
                              stdout=subprocess.DEVNULL, stderr=pipe.writer, env=clean_environment(), timeout=40)
        assert done.returncode == 0


def test_case_c2_programs_say_that_no_thread_is_to_be_had(tmp_path):
    """As an ordinary user, for whom RLIMIT_NPROC counts; the program is reached by its descriptor, wherever it lies."""

    def no_threads():
        if os.geteuid() == 0:
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    program = os.open(BIN / "memkv", os.O_RDONLY)
    try:
        for args in (["get", "k", "--servers", "localhost:1"], ["start", "--mode", "memory", "--memory", "64MiB", "--no-shm", "--congestion", "system", "--address", "127.0.0.1:0"]):
            done = subprocess.run([f"/proc/self/fd/{program}", *args], cwd="/", capture_output=True, pass_fds=(program,), preexec_fn=no_threads, env=clean_environment(), timeout=20)
            assert done.returncode in (3, 5) and b"no thread can be made" in done.stderr and b"pids.max" in done.stderr, done
    finally:
        os.close(program)


def test_case_c6_a_path_that_exists_is_a_path(memkv, servers, tmp_path):
    names = ["pci-0000:01:00.0-nvme-1", "with,comma.memkv", "d0:8GiB"]
    for name in names:
        sparse(tmp_path / name, 32 << 20)
    args = [word for name in names for word in ("--drive", f"{tmp_path}/{name}")]
    made = memkv("setup", *args, "--shards", "1", "--auth-key-file", f"{tmp_path}/memkv.key")
    assert made.code == 0, made
    config = tmp_path / "memkv.yaml"
    config.write_bytes(made.out)
    server = servers("--config", config)
    drives = json.loads(memkv("status", "--json", server=server, key=f"@{tmp_path}/memkv.key").text)["servers"][0]["status"]["drives"]
    assert [drive["path"] for drive in drives] == [f"{tmp_path}/{name}" for name in names]


def test_case_c6_a_path_with_colons_that_is_not_there_is_told_as_one(memkv, servers, tmp_path):
    missing = memkv("setup", "--drive", "/dev/disk/by-path/pci-0000:01:00.0-nvme-9")
    assert missing.code == 2 and "/dev/disk/by-path/pci-0000:01:00.0-nvme-9 is a path: there is nothing of that name" in missing.err, missing
    made = memkv("setup", "--drive", f"{tmp_path}/odd: #name:1:32MiB", "--shards", "1", "--output", "memkv.yaml")
    assert made.code == 0 and made.out == b"" and (tmp_path / "odd: #name:1").stat().st_size == 32 << 20, made
    servers("--config", "memkv.yaml")


STDOUT_COMMANDS = (["ls"], ["ls", "--json"], ["stat", "k"], ["stat", "k", "--json"], ["status"], ["status", "--json"], ["exists", "k"], ["get", "k"], ["version"], ["--version"],
                   ["--help"], ["setup", "--help"])


def test_case_c7_every_command_checks_what_it_wrote(memkv, servers):
    server = servers("--mode", "memory", "--memory", "64MiB")
    assert memkv("put", "k", "/etc/hostname", server=server).code == 0
    reader, no_reader = os.pipe()
    os.close(reader)
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        for args in STDOUT_COMMANDS:
            for stream, why in ((full, b"No space left"), (no_reader, b"Broken pipe")):
                done = subprocess.run([BIN / "memkv", *args], stdout=stream, stderr=subprocess.PIPE, env=clean_environment(MEMKV_SERVERS=server.address), timeout=20)
                assert done.returncode == 5 and b"stdout" in done.stderr and why in done.stderr and done.stderr.count(b"\n") == 1, (args, done)
        for args in (["version"], ["exists", "k"]):
            done = subprocess.run([BIN / "memkv", *args], preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, env=clean_environment(MEMKV_SERVERS=server.address), timeout=20)
            assert done.returncode == 5 and b"stdout" in done.stderr, (args, done)
        nothing_to_say = subprocess.run([BIN / "memkv", "put", "k", "/etc/hostname"], stdout=full, env=clean_environment(MEMKV_SERVERS=server.address), timeout=20)
        assert nothing_to_say.returncode == 0
    finally:
        os.close(full)
        os.close(no_reader)


def test_case_c7_messages_that_nobody_takes_leave_the_exit_code():
    with open("/dev/full", "wb") as full:
        for args in (["frob"], ["get", "k", "--servers", "127.0.0.1:1"]):
            assert subprocess.run([BIN / "memkv", *args], stderr=full, env=clean_environment(), timeout=20).returncode in (2, 3)


def test_case_c7_a_benchmark_checks_its_reports(tmp_path):
    with open("/dev/full", "wb") as full:
        for args in (["--help"], ["--version"]):
            done = subprocess.run([BIN / "memkv-bench", *args], stdout=full, stderr=subprocess.PIPE, timeout=20)
            assert done.returncode == 5 and b"stdout" in done.stderr, done
    small = ["sweep", "--own", "memory", "--sizes", "4KiB", "--bytes", "1MiB", "--no-ceiling"]
    for option in ("--json", "--html"):
        done = run("memkv-bench", *small, option, "/dev/full", cwd=tmp_path, timeout=60)
        assert done.code == 5 and "/dev/full" in done.err and "No space left" in done.err, done


def test_case_c7_a_setup_without_its_configuration_formats_nothing(memkv, tmp_path):
    drive = tmp_path / "there.memkv"
    sparse(drive, 32 << 20)
    before = drive.stat().st_mtime_ns
    reader, no_reader = os.pipe()
    os.close(reader)
    args = ["setup", "--drive", drive, "--drive", f"{tmp_path}/made.memkv:32MiB", "--shards", "1", "--auth-key-file", "memkv.key"]
    with open("/dev/full", "wb") as full:
        for stream in (full, no_reader):
            done = subprocess.run([BIN / "memkv", *args], cwd=tmp_path, stdout=stream, stderr=subprocess.PIPE, timeout=20)
            assert done.returncode == 5 and b"configuration" in done.stderr and b"Nothing was formatted" in done.stderr, done
    os.close(no_reader)
    done = subprocess.run([BIN / "memkv", *args], cwd=tmp_path, preexec_fn=lambda: os.close(1), stderr=subprocess.PIPE, timeout=20)
    assert done.returncode == 2 and b"stdout is closed" in done.stderr, done
    assert [path.name for path in tmp_path.iterdir()] == ["there.memkv"] and drive.stat().st_mtime_ns == before


def test_case_c7_a_configuration_goes_to_a_file_whole_or_not_at_all(memkv, servers, tmp_path):
    args = ["setup", "--drive", f"{tmp_path}/d0.memkv:32MiB", "--shards", "1", "--output", f"{tmp_path}/memkv.yaml"]
    nowhere = memkv(*args[:-1], f"{tmp_path}/nowhere/memkv.yaml")
    assert nowhere.code == 2 and "nowhere/memkv.yaml" in nowhere.err and not any(tmp_path.iterdir()), nowhere
    assert memkv(*args).code == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["d0.memkv", "memkv.key", "memkv.yaml"]
    servers("--config", tmp_path / "memkv.yaml").stop()
    again = memkv(*args)
    assert again.code == 2 and "memkv.yaml: is there already" in again.err, again
    assert memkv(*args, "--force").code == 0


def test_case_c8_a_drive_file_leaves_room(memkv, tmp_path):
    if os.geteuid() != 0:
        pytest.fail("needs root to mount a small tmpfs")
    with small_tmpfs(tmp_path / "small", "200m") as small:
        refused = memkv("setup", "--drive", f"{small}/d0.memkv:100MiB", "--drive", f"{small}/d1.memkv:95MiB", "--shards", "1")
        assert refused.code == 5 and "195 MiB" in refused.err and "200 MiB free" in refused.err and "10 MiB must stay free" in refused.err and "leaves 190 MiB" in refused.err, refused
        assert not any(small.iterdir()) and os.statvfs(small).f_bfree == os.statvfs(small).f_blocks
        assert memkv("setup", "--drive", f"{small}/d0.memkv:190MiB", "--shards", "1").code == 0
        again = memkv("setup", "--drive", f"{small}/d0.memkv:180MiB", "--shards", "1", "--force", "--auth-key-file", "memkv.key")
        assert again.code == 0, again  # what is replaced counts


def test_case_c8_a_file_system_in_a_sparse_file_has_no_more_room_than_what_is_below(memkv, tmp_path):
    if os.geteuid() != 0:
        pytest.fail("needs root to mount file systems")
    with small_tmpfs(tmp_path / "below", "100m") as below:
        image, inner = below / "image", tmp_path / "inner"
        sparse(image, 1 << 30)
        subprocess.run(["mkfs.ext4", "-q", "-E", "nodiscard", image], check=True)
        inner.mkdir()
        subprocess.run(["mount", "-o", "loop", image, inner], check=True)
        try:
            refused = memkv("setup", "--drive", f"{inner}/d0.memkv:500MiB")
            assert refused.code == 5 and f"{image}: no space for 500 MiB: the file system of {below}" in refused.err, refused
            assert not (inner / "d0.memkv").exists()
        finally:
            subprocess.run(["umount", inner], check=True)


def interrupted_setup(folder, number):
    """(exit code, stdout, stderr) of a setup that gets the signal as soon as it has made something."""
    process = subprocess.Popen([BIN / "memkv", "setup", "--drive", folder / "d0.memkv:1GiB"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not any(folder.iterdir()):
        time.sleep(0.001)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    return process.returncode, out, err


def test_case_c8_an_interrupted_setup_takes_back_what_it_made(tmp_path):
    for number in (signal.SIGINT, signal.SIGTERM):
        for _ in range(10):
            code, out, err = interrupted_setup(tmp_path, number)
            if code != 0:
                break
            for made in tmp_path.iterdir():  # on a busy machine it was done before the signal came
                made.unlink()
        assert code == 5 and out == b"" and b"interrupted" in err, (code, err)
        assert not any(tmp_path.iterdir())


def test_case_c10_a_foreign_credential_is_told_once_with_its_address_and_key_id(memkv, servers, tmp_path):
    config, key = setup_store(memkv, tmp_path, "d0.memkv:32MiB")
    server = servers("--config", config)
    began = time.monotonic()
    for _ in range(3):
        assert memkv("get", "k", server=server, key=DRAWN_KEY).code == 4
    lines = [line for line in server.log().splitlines() if "is refused" in line]
    assert 1 <= len(lines) <= 1 + (time.monotonic() - began) / 5 and re.search(r"a client at 127\.0\.0\.1:\d+ is refused: its credential is not known here, key id [0-9a-f]{16}", lines[0]), server.log()
    assert DRAWN_KEY not in server.log()
    assert service(memkv, server, key)["credentials_refused"] >= 3


def test_case_c16_of_a_key_whose_server_is_away_nothing_is_known(memkv, tmp_path):
    asked = memkv("exists", "k", server="127.0.0.1:1")
    assert asked.code == 3 and asked.text == "?   k\n" and "127.0.0.1:1" in asked.err, asked
    removed = memkv("rm", "k", server="127.0.0.1:1")
    assert removed.code == 3 and "miss" not in removed.err, removed


def test_case_c17_no_word_of_the_command_line_is_dropped(memkv, tmp_path):
    both = memkv("start", "--mode", "memory", "--memory", "64MiB", "--drive", f"{tmp_path}/d0.memkv", "--address", "127.0.0.1:0", timeout=10)
    assert both.code == 2 and "--drive" in both.err, both


def test_case_a6_weak_credentials_are_none(memkv, servers, tmp_path):
    weak = ["0" * 64, "ab" * 32, "0123456789abcdef" * 4, "deadbeef" * 8, bytes(range(32)).hex(), bytes(range(32, 0, -1)).hex(), "0" * 63 + "1"]
    config, key = setup_store(memkv, tmp_path, "d0.memkv:32MiB")
    for text in weak:
        bad = tmp_path / "bad.yaml"
        bad.write_text(f"network:\n  address: 0.0.0.0:0\n  auth_key: \"{text}\"\nstorage:\n  mode: memory\nmemory:\n  max_size: 64MiB\n")
        refused = memkv("start", "--config", bad, timeout=20)
        assert refused.code == 2 and "weak" in refused.err and "line 3" in refused.err and text not in refused.err, refused
    (tmp_path / "weak.key").write_text(weak[0])
    server = servers("--config", config)
    for reference in (weak[0], f"@{tmp_path}/weak.key"):
        refused = memkv("get", "k", server=server, key=reference)
        assert refused.code == 2 and "weak" in refused.err, refused
    refused = memkv("setup", "--drive", f"{tmp_path}/d1.memkv:32MiB", "--auth-key-file", f"{tmp_path}/weak.key")
    assert refused.code == 2 and "weak" in refused.err and not (tmp_path / "d1.memkv").exists(), refused
    assert memkv("get", "k", server=server).code == 4, "no credential is none of this store"
    assert memkv("put", "k", "/etc/hostname", server=server, key=key).code == 0
