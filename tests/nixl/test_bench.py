"""memkv-bench nixl: the plugin through the agent of a real wheel, as a user runs it."""

import json
import os
import shutil
import subprocess

from conftest import LIB, NEWEST, ROOT
from processes import BIN, Server, clean_environment, run


def bench(*arguments, **more):
    return run("memkv-bench", "nixl", *arguments, timeout=240, **more)


def test_sweep_tells_logical_and_wire_apart(tmp_path):
    report = tmp_path / "report.json"
    page = tmp_path / "report.html"
    done = bench("--start_block_size", "64KiB", "--max_block_size", "128KiB", "--total_bytes", "16MiB", "--recreate_xfer",
                 "--num_threads", "2", "--json", report, "--html", page)
    assert done.code == 0, done.text + done.err
    assert " 0 wrong, 0 requests failed" in done.text and "2 sizes, 0 wrong bytes" in done.text
    assert "memkv nixl:" not in done.err, "the plugin's own line would stand between the table's"
    told = json.loads(report.read_text())
    runs = told["runs"]
    assert len(runs) == 2 * 2 * 3, "sizes, ops; batch 1, batch 16 of one key and of distinct keys"
    assert all(run["verified_blocks"] > 0 and run["mismatches"] == 0 for run in runs)
    shared = [run for run in runs if (run["op"], run["keys"], run["batch"]) == ("read", "one", 16)]
    assert len(shared) == 2
    for run in shared:
        assert (run["wire_ops_per_request"], run["copies_per_request"]) == (1, 15)
        assert abs(run["logical_gib_per_s"] / run["wire_gib_per_s"] - 16) < 0.01
    for run in runs:
        if run["keys"] == "distinct":
            assert run["wire_ops_per_request"] == run["batch"] and run["copies_per_request"] == 0
    ways = {run["transport"] for run in runs}
    assert ways <= {"shm", "shm+tcp", "tcp+shm"}, "an own server is on this host; auto begins with tcp"
    assert (told["notes"] == []) == (ways == {"shm"}) and not told["emulated"] and [len(table["rows"]) for table in told["tables"]] == [2, 2]
    html = page.read_text()
    assert html.count("<figure") == 5 and "http" not in html.replace("http://www.w3.org", "")


def test_transports_side_by_side_each_named_by_what_carried_it(tmp_path):
    report = tmp_path / "report.json"
    page = tmp_path / "report.html"
    done = bench("--own", "memory", "--transport", "tcp,shm", "--start_block_size", "64KiB", "--max_block_size", "128KiB", "--total_bytes", "16MiB",
                 "--json", report, "--html", page)
    assert done.code == 0, done.text + done.err
    told = json.loads(report.read_text())
    assert [run["asked"] for run in told["runs"]] == ["tcp", "shm"] * (2 * 2 * 3), "by turns at each point"
    for run in told["runs"]:
        other = "shm" if run["asked"] == "tcp" else "tcp"
        moved = run["bytes_by_transport"]
        assert run["transport"] == run["asked"] and moved[other] == 0 and moved["rdma"] == 0, run
        assert moved[run["asked"]] >= run["block_bytes"] * run["requests"] * run["wire_ops_per_request"] * 0.999, run
    writes, reads = told["tables"]
    for table in (writes, reads):
        assert table["columns"] == ["tcp", "shm"]
        assert [row["block_bytes"] for row in table["rows"]] == [65536, 131072]
        assert all(rate > 0 for row in table["rows"] for rate in row["gib_per_s"])
        assert table["title"] + ", GiB/s" in done.text and f"<h2>{table['title']}</h2>" in page.read_text()
    assert told["notes"] == [] and "2 sizes, 0 wrong bytes" in done.text


def test_auto_names_what_it_took(tmp_path):
    """No socket where the client looks: auto goes over tcp, and the report says tcp."""
    report = tmp_path / "report.json"
    server = Server(tmp_path, "--mode", "memory", "--memory", "256MiB")
    try:
        done = bench("--servers", server.address, "--transport", "auto", "--start_block_size", "64KiB", "--max_block_size", "64KiB", "--total_bytes", "4MiB",
                     "--json", report, env=clean_environment(MEMKV_SHM_DIR=tmp_path / "nowhere"))
    finally:
        server.kill()
    assert done.code == 0, done.text + done.err
    runs = json.loads(report.read_text())["runs"]
    assert runs and all((run["asked"], run["transport"], run["rails"]) == ("auto", "tcp", None) for run in runs), runs


def test_rails_want_rdma_and_devices(tmp_path):
    without = bench("--rails", "1,2", "--transport", "tcp,shm")
    assert without.code == 2 and "--rails 1,2: only rdma has rails, and it is not in --transport tcp,shm" in without.err
    number = bench("--rails", "0", "--transport", "rdma")
    assert number.code == 2 and "--rails 0: numbers from 1 to 8" in number.err
    devices = bench("--own", "memory", "--max_block_size", "64KiB", "--rails", "1,2", "--transport", "rdma", env=clean_environment(MEMKV_RDMA_DEVICES="no_such_0"))
    assert devices.code == 2 and "transport rdma: " in devices.err, devices.err
    sweep = run("memkv-bench", "sweep", "--rails", "2", "--sizes", "4KiB")
    assert sweep.code == 2 and "--rails 2: only rdma has rails" in sweep.err


def test_what_is_wrong_is_said(tmp_path):
    nowhere = bench("--wheel", tmp_path)
    assert nowhere.code == 2 and "libnixl_capi.so" in nowhere.err and "pip install" in nowhere.err
    wrong = bench("--op_type", "FETCH")
    assert wrong.code == 2 and "READ, WRITE or both" in wrong.err
    plugin = bench("--plugin", tmp_path / "libplugin_MEMKV.so")
    assert plugin.code == 2 and "libplugin_MEMKV.so" in plugin.err
    large = bench("--total_buffer_size", "64MiB", "--max_block_size", "4MiB", "--num_threads", "2")
    assert large.code == 2 and "128 MiB" in large.err and "--total_buffer_size is 64 MiB" in large.err


def keys_of(server):
    return run("memkv", "ls", "--servers", server.address).text.split()


def test_two_servers_share_the_keys(tmp_path):
    first, second = (Server(tmp_path, "--mode", "memory", "--memory", "256MiB") for _ in range(2))
    try:
        report = tmp_path / "report.json"
        done = bench("--servers", f"{first.address},{second.address}", "--start_block_size", "64KiB", "--max_block_size", "64KiB",
                     "--total_bytes", "8MiB", "--total_buffer_size", "1MiB", "--json", report)
        assert done.code == 0, done.text + done.err
        told = json.loads(report.read_text())
        assert len(told["settings"]["servers"]) == 2
        assert all(run["verified_blocks"] > 0 and run["mismatches"] == 0 and run["failures"] == 0 for run in told["runs"])
        for server in (first, second):
            status = json.loads(run("memkv", "status", "--servers", server.address, "--json").text)
            assert '"puts": 0' not in json.dumps(status), status
            assert keys_of(server) == [], "a benchmark leaves nothing"
    finally:
        first.kill(), second.kill()


def test_what_fails_early_leaves_nothing(tmp_path):
    """Too little time for the batch that is to be read later: some of its objects are written."""
    server = Server(tmp_path, "--mode", "memory", "--memory", "512MiB")
    try:
        for milliseconds in (5, 10, 20, 40):
            env = clean_environment(MEMKV_TIMEOUT_MS=milliseconds)
            done = bench("--servers", server.address, "--op_type", "READ", "--keys", "distinct", "--start_block_size", "8MiB", "--max_block_size", "8MiB",
                         "--start_batch_size", "16", "--no_check_consistency", "--no-client", env=env)
            assert keys_of(server) == [], f"{milliseconds} ms, exit {done.code}: {done.err}"
    finally:
        server.kill()


def test_the_wheel_of_the_active_python_is_found(tmp_path):
    """A program that does not lie in the source tree, and a python3 with NIXL installed."""
    program = tmp_path / "bin/memkv-bench"
    program.parent.mkdir()
    shutil.copy(BIN / "memkv-bench", program)
    arguments = [program, "nixl", "--plugin", LIB / "libplugin_MEMKV.so", "--own", "memory", "--start_block_size", "64KiB", "--max_block_size", "64KiB",
                 "--total_bytes", "1MiB", "--no-client"]
    without = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=clean_environment(PYTHONPATH=tmp_path))
    assert without.returncode == 2 and "the packages of python3" in without.stderr, without.stderr
    env = clean_environment(PYTHONPATH=os.pathsep.join([str(tmp_path), str(ROOT / ".venv-nixl" / NEWEST)]))
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
