"""The RAM tier of a server with drives: what is read again comes from memory, over tcp and shm, and is never old."""

import json

from conftest import setup_store


def tier(memkv, server, key):
    return json.loads(memkv("status", "--json", server=server, key=key).text)["servers"][0]["status"]["tier"]


def start(memkv, servers, folder, line):
    config, key = setup_store(memkv, folder, "d0.memkv:64MiB")
    config.write_text(config.read_text().replace("\nmemory:\n", f"\nmemory:\n  {line}\n"))
    return servers("--config", config), key


def test_what_is_read_again_comes_from_memory_and_is_never_old(memkv, servers, tmp_path):
    server, key = start(memkv, servers, tmp_path, "tier_size: 64MiB")
    for transport in ("tcp", "shm"):
        settings = {"server": server, "key": key}
        for size in (5_000, 700_001, 5_000_000):
            for version in (1, 2):
                data = bytes((i * 7 + version) % 251 for i in range(1000)) * (size // 1000) + bytes([version]) * (size % 1000)
                assert memkv("put", f"k{size}", "-", "--transport", transport, stdin=data, **settings).code == 0
                for _ in range(3):
                    assert memkv("get", f"k{size}", "--transport", transport, **settings).out == data
        assert memkv("rm", "k700001", **settings).code == 0
        assert memkv("get", "k700001", "--transport", transport, **settings).code == 1
    seen = tier(memkv, server, key)
    # Of three gets of a version the first reads the drive. 5 MB are three chunks.
    assert seen["hits"] == 2 * 2 * (2 + 2 + 6) and seen["misses"] == 2 * 2 * (1 + 1 + 3)
    assert seen["hit_rate"] > 0.6 and 5_000_000 < seen["bytes"] <= seen["bytes_max"]


def test_without_memory_for_it_there_is_none(memkv, servers, tmp_path):
    server, key = start(memkv, servers, tmp_path, "tier_size: 0")
    assert memkv("put", "k", "-", server=server, key=key, stdin=b"x" * 5000).code == 0
    for _ in range(2):
        assert memkv("get", "k", server=server, key=key).out == b"x" * 5000
    seen = tier(memkv, server, key)
    assert seen["hits"] == seen["misses"] == seen["bytes_max"] == 0
