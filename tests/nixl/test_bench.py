"""memkv-bench nixl: the plugin through the agent of a real wheel, as a user runs it."""

import json

from processes import run


def bench(*arguments):
    return run("memkv-bench", "nixl", *arguments, timeout=240)


def test_sweep_tells_logical_and_wire_apart(tmp_path):
    report = tmp_path / "report.json"
    page = tmp_path / "report.html"
    done = bench("--start_block_size", "64KiB", "--max_block_size", "128KiB", "--total_bytes", "16MiB", "--recreate_xfer",
                 "--num_threads", "2", "--json", report, "--html", page)
    assert done.code == 0, done.text + done.err
    assert " 0 wrong, 0 requests failed" in done.text and "2 sizes, 0 wrong bytes" in done.text
    assert "memkv nixl:" not in done.err, "the plugin's own line would stand between the table's"
    runs = json.loads(report.read_text())["runs"]
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
    html = page.read_text()
    assert html.count("<figure") == 3 and "http" not in html.replace("http://www.w3.org", "")


def test_what_is_wrong_is_said(tmp_path):
    nowhere = bench("--wheel", tmp_path)
    assert nowhere.code == 2 and "libnixl_capi.so" in nowhere.err and "pip install" in nowhere.err
    wrong = bench("--op_type", "FETCH")
    assert wrong.code == 2 and "READ, WRITE or both" in wrong.err
    plugin = bench("--plugin", tmp_path / "libplugin_MEMKV.so")
    assert plugin.code == 2 and "libplugin_MEMKV.so" in plugin.err
