"""The surroundings that containers give: limits (C3), congestion control (C4), system calls and folders (C5). Each test has a cgroup or namespace of its own.

Those named test_case_c3 also run in the guest, under cgroup version 2 (test_guest.py).
"""

import json
import os
import pathlib
import subprocess
import sys
import time

import pytest
from cgroup import Cgroup
from conftest import BIN, ROOT, Result, Server, clean_environment, run, setup_store

CONTAINER = (sys.executable, str(ROOT / "tests/support/container.py"))
NOBODY = 65534
MIB = 1 << 20
CONGESTION = "setsockopt:2=13"  # TCP_CONGESTION


def around(*options):
    """A prefix: runs what follows under container.py with these options."""
    return (*CONTAINER, *map(str, options), "--")


def lines(server, *words):
    return [line for line in server.log().splitlines() if all(word in line for word in words)]


def patiently(call, seconds=60):
    """Half a CPU of an emulated machine is slower than the deadlines of single commands."""
    until = time.monotonic() + seconds
    while (answer := call()).code == 3 and time.monotonic() < until:
        pass
    assert answer.code == 0, answer
    return answer


def status(memkv, server, field, **more):
    answer = patiently(lambda: memkv("status", "--json", server=server, **more))
    found = json.loads(answer.text)["servers"][0]["status"]
    for key in field.split("."):
        found = found[key]
    return found


def serves(memkv, server, folder, **more):
    block = os.urandom(300_000)
    (folder / "block").write_bytes(block)
    patiently(lambda: memkv("put", "k", folder / "block", server=server, **more))
    assert patiently(lambda: memkv("get", "k", server=server, **more)).out == block


class Container:
    """Runs programs as a runtime does, with `options` of container.py; the host's tmp_path/data is its /data."""

    def __init__(self, tmp_path, *options):
        self.data = tmp_path / "data"
        self.data.mkdir()
        os.chown(self.data, NOBODY, NOBODY)
        self.prefix = around("--data", self.data, "--app", BIN, *options)

    def run(self, *args, **env):
        argv = [*self.prefix, "/app/memkv", *map(str, args)]
        return Result(subprocess.run(argv, capture_output=True, timeout=60, env=clean_environment(**env)))

    def serve(self, *args):
        return Server(self.data, *args, prefix=self.prefix, program="/app/memkv", seen="/data")


# --- C3: limits of the cgroup


def test_case_c3_memory_mode_and_workers_follow_the_cgroup(memkv, tmp_path, servers):
    with Cgroup(memory=512 * MIB, cpu=0.5) as group:
        server = servers("--mode", "memory", prefix=around(*group.joins))
        assert status(memkv, server, "workers") == 1
        assert status(memkv, server, "raw_bytes_total") <= 128 * MIB
        assert status(memkv, server, "shm.window_bytes_max") <= 128 * MIB
        serves(memkv, server, tmp_path)
        assert server.stop() == 0
        assert group.oom_kills() == 0


def test_case_c3_what_cannot_fit_is_refused_with_the_arithmetic(memkv):
    with Cgroup(memory=512 * MIB) as group:
        for args, last, key in (("--memory", "1GiB"), "buffers", "memory.max_size"), (("--memory", "128MiB", "--shm-size", "300MiB"), "shared memory", "shm.max_size"):
            refused = memkv("start", "--mode", "memory", *args, "--address", "127.0.0.1:0", prefix=around(*group.joins))
            assert refused.code == 2, refused
            for part in ("the server needs ", " for blocks + ", f" for {last} = ", "memory.", " allows 512 MiB: lower ", key):
                assert part in refused.err, refused
        assert group.oom_kills() == 0


@pytest.mark.parametrize("option, name", [("--as", "ulimit -v"), ("--data", "ulimit -d")])
def test_case_c3_a_limit_of_address_space_is_a_limit_of_memory(memkv, option, name):
    refused = memkv("start", "--mode", "memory", "--memory", "64MiB", "--workers", "1", "--address", "127.0.0.1:0", prefix=("prlimit", f"{option}={160 * MIB}", "--"))
    assert refused.code == 2 and f"({name}) allows 160 MiB: lower" in refused.err, refused


def test_case_c3_150_clients_do_not_end_in_an_oom_kill(memkv, tmp_path, servers):
    """150 `auto` clients of two I/O contexts each want 300 windows of 2.5 MiB."""
    with Cgroup(memory=700 * MIB) as group:
        config, key = setup_store(memkv, tmp_path, "d0.memkv:64MiB")
        server = servers("--config", config, "--workers", "1", prefix=around(*group.joins))
        load = ("--threads", "300", "--depth", "1", "--sizes", "64KiB", "--bytes", "19MiB", "--window", "32MiB", "--seconds", "1s", "--no-ceiling", "--deadline", "60s")
        result = run("memkv-bench", "sweep", "--servers", server.address, "--auth-key", key, *load, timeout=120)
        assert result.code == 0, result
        assert server.process.poll() is None and group.oom_kills() == 0, server.log()
        serves(memkv, server, tmp_path, key=key)
        assert server.stop() == 0


def test_case_c3_the_arithmetic_covers_what_is_taken(memkv, tmp_path, servers):
    """Filled, restarted and read by shm clients, a server stays within what its start had worked out."""
    with Cgroup(memory=400 * MIB) as group:
        server = servers("--mode", "memory", "--memory", "64MiB", "--workers", "2", prefix=around(*group.joins))
        result = run("memkv-bench", "sweep", "--servers", server.address, "--threads", "4", "--sizes", "4KiB,1MiB", "--bytes", "48MiB", "--window", "64MiB", "--seconds", "1s", "--no-ceiling")
        assert result.code == 0, result
        assert group.peak() < status(memkv, server, "memory.planned_bytes") <= 400 * MIB
        assert server.stop() == 0 and group.oom_kills() == 0


def test_case_c3_threads_that_the_cgroup_does_not_allow_are_told(memkv, tmp_path, servers):
    with Cgroup(pids=12) as group:
        prefix = around(*group.joins)
        refused = memkv("start", "--mode", "memory", "--memory", "64MiB", "--workers", "4", "--io", "epoll", "--address", "127.0.0.1:0", prefix=prefix)
        assert refused.code == 2 and "threads: the server needs 20 for 4 workers" in refused.err and "pids.max has room for 11: lower workers" in refused.err, refused
        server = servers("--mode", "memory", "--memory", "64MiB", "--io", "epoll", prefix=prefix)
        serves(memkv, server, tmp_path)
        assert server.stop() == 0


# --- C4: congestion control


@pytest.mark.parametrize("error, reason", [("EPERM", "not permitted to this process (EPERM)"), ("ENOENT", "not offered by this system (ENOENT)")])
def test_case_c4_the_default_falls_back_and_a_stated_one_is_refused_with_the_reason(memkv, tmp_path, servers, error, reason):
    prefix = around("--deny", f"{CONGESTION}={error}")
    start = ("--mode", "memory", "--memory", "64MiB")
    server = servers(*start, prefix=prefix)
    assert len(lines(server, "'cubic' is " + reason, "is used")) == 1, server.log()
    serves(memkv, server, tmp_path, prefix=prefix)
    bench = ("memkv-bench", "sweep", "--servers", server.address, "--sizes", "64KiB", "--bytes", "1MiB", "--threads", "1", "--no-ceiling", "--transport", "tcp")
    told = run(*bench, prefix=prefix)
    assert told.code == 0 and (told.text + told.err).count("'cubic' is " + reason) == 1, told

    refused = memkv("start", *start, "--congestion", "cubic", "--address", "127.0.0.1:0", prefix=prefix)
    assert refused.code == 2 and "network.congestion: " in refused.err and reason in refused.err, refused
    (tmp_path / "client.yaml").write_text("congestion: cubic\n")
    refused = run("memkv", "exists", "k", prefix=prefix, env=clean_environment(MEMKV_SERVERS=server.address, MEMKV_CONFIG=tmp_path / "client.yaml"))
    assert refused.code == 2 and reason in refused.err, refused
    refused = run(*bench, "--congestion", "cubic", prefix=prefix)
    assert refused.code == 2 and "--congestion: " in refused.err and reason in refused.err, refused
    assert server.stop() == 0


def test_case_c4_without_cap_net_admin_the_server_starts_whatever_the_host_allows(memkv, tmp_path):
    container = Container(tmp_path, "--uid", NOBODY)
    server = container.serve("--mode", "memory", "--memory", "64MiB")
    try:
        permitted = pathlib.Path("/proc/sys/net/ipv4/tcp_allowed_congestion_control").read_text().split()
        used = status(memkv, server, "congestion_control")
        told = lines(server, "'cubic' is not permitted", "no CAP_NET_ADMIN", f"the system's '{used}' is used")
        assert (used, told) == ("cubic", []) if "cubic" in permitted else len(told) == 1, server.log()
        serves(memkv, server, tmp_path)
        assert server.stop() == 0
    finally:
        server.kill()


def test_case_c4_setup_writes_no_congestion_control_into_its_file(memkv, tmp_path):
    made = memkv("setup", "--drive", f"{tmp_path}/d:64MiB")
    assert made.code == 0, made
    assert [line.strip()[0] for line in made.text.splitlines() if "congestion" in line] == ["#"], made


# --- C5: system calls that are denied


@pytest.mark.parametrize("denied", ["io_uring_setup=ENOSYS", "io_uring_register=EPERM", "io_uring_register=ENOSYS", "io_uring_enter=EPERM", "io_uring_enter=ENOSYS"])
def test_case_c5_whichever_call_of_io_uring_is_denied_epoll_serves(memkv, tmp_path, servers, denied):
    prefix = around("--deny", denied)
    server = servers("--mode", "memory", "--memory", "64MiB", prefix=prefix)
    told = lines(server, "io_uring")
    assert len(told) == 1 and denied.replace("=", ": ") in told[0] and "epoll" in told[0], server.log()
    serves(memkv, server, tmp_path)
    assert status(memkv, server, "io") == "epoll"
    assert server.stop() == 0
    refused = memkv("start", "--mode", "memory", "--memory", "64MiB", "--io", "uring", "--address", "127.0.0.1:0", prefix=prefix)
    assert refused.code == 5 and denied.replace("=", ": ") in refused.err, refused


@pytest.mark.parametrize("denied, word", [("eventfd2=EPERM", "eventfd: Operation not permitted"), ("epoll_create1=ENOSYS", "epoll_create1: Function not implemented")])
def test_case_c5_what_a_client_cannot_do_without_is_told(memkv, servers, denied, word):
    server = servers("--mode", "memory", "--memory", "64MiB")
    refused = memkv("exists", "k", server=server, prefix=around("--deny", denied))
    assert refused.code in (2, 5) and word in refused.err and "ulimit" not in refused.err, refused
    assert server.stop() == 0


def test_case_c5_without_memfd_create_clients_come_over_tcp(memkv, tmp_path, servers):
    server = servers("--mode", "memory", "--memory", "64MiB", "--shm-dir", tmp_path / "shm", prefix=around("--deny", "memfd_create=EPERM"))
    told = lines(server, "no shared memory", "memfd_create", "Operation not permitted")
    assert len(told) == 1, server.log()
    serves(memkv, server, tmp_path)
    assert status(memkv, server, "transports") == ["tcp"]
    assert server.stop() == 0


def test_case_c5_a_client_that_cannot_map_a_window_uses_tcp(memkv, tmp_path, servers):
    map_shared_now = 0x8001  # MAP_SHARED | MAP_POPULATE: what windows are mapped with
    server = servers("--mode", "memory", "--memory", "64MiB", "--shm-dir", tmp_path / "shm")
    (tmp_path / "b").write_bytes(b"x" * 100_000)
    env = clean_environment(MEMKV_SERVERS=server.address, MEMKV_SHM_DIR=tmp_path / "shm")
    put = run("memkv", "put", "k", tmp_path / "b", prefix=around("--deny", f"mmap:3={map_shared_now}=EPERM"), env=env)
    assert put.code == 0, put
    assert server.stop() == 0


# --- Containers as a whole


@pytest.mark.parametrize("options", [("--seccomp", "docker"), ("--seccomp", "docker-25"), ("--rootless", "--seccomp", "docker-25"), ("--close", "0", "--tmp")],
                         ids=["docker", "docker-25", "rootless", "closed-stdin"])
def test_case_c5_a_container_with_nothing_but_a_data_folder(memkv, tmp_path, options):
    """No capabilities, nobody's uid, a read-only root, 64 MiB of /dev/shm, no HOME and (but for the last) no /tmp; set up, served and read from inside."""
    container = Container(tmp_path, "--uid", NOBODY, *options)
    made = container.run("setup", "--drive", "/data/d0:64MiB", "--auth-key-file", "/data/key")
    assert made.code == 0, made
    (container.data / "memkv.yaml").write_bytes(made.out)
    server = container.serve("--config", "/data/memkv.yaml")
    try:
        if "--tmp" not in options:
            assert len(lines(server, "no shared memory for clients on this host: no runtime folder")) == 1, server.log()
        if "docker-25" in options:
            assert len(lines(server, "io_uring is not available", "a seccomp filter (io_uring_setup: EPERM)", "epoll")) == 1, server.log()
        env = {"MEMKV_SERVERS": server.address, "MEMKV_AUTH_KEY": "@/data/key"}
        (container.data / "block").write_bytes(os.urandom(5_000_000))
        assert container.run("put", "k", "/data/block", **env).code == 0, server.log()
        assert container.run("get", "k", **env).out == (container.data / "block").read_bytes()
        assert server.stop() == 0
        assert not lines(server, "ERROR"), server.log()
    finally:
        server.kill()


def test_case_c5_shared_memory_does_not_need_dev_shm(memkv, tmp_path):
    """Windows are memfds: 64 MiB of /dev/shm, or none, is no limit for them."""
    container = Container(tmp_path, "--uid", NOBODY, "--shm", "4k", "--seccomp", "docker")
    server = container.serve("--mode", "memory", "--memory", "64MiB", "--shm-dir", "/data/shm")
    try:
        env = {"MEMKV_SERVERS": server.address, "MEMKV_SHM_DIR": "/data/shm", "MEMKV_TRANSPORT": "shm"}
        (container.data / "block").write_bytes(os.urandom(5_000_000))
        assert container.run("put", "k", "/data/block", **env).code == 0, server.log()
        assert container.run("get", "k", **env).out == (container.data / "block").read_bytes()
        assert server.stop() == 0
    finally:
        server.kill()


def test_case_c5_a_root_of_a_user_namespace_has_a_memlock_limit(memkv, tmp_path):
    container = Container(tmp_path, "--uid", NOBODY, "--rootless")
    container.prefix = ("prlimit", "--memlock=65536", *container.prefix)
    server = container.serve("--mode", "memory", "--memory", "64MiB")
    try:
        assert len(lines(server, "the memlock limit is 64 KiB")) == 1, server.log()
        serves(memkv, server, tmp_path)
        assert server.stop() == 0
    finally:
        server.kill()
