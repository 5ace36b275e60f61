"""Drives that are damaged while the server is down, and a store of format version 1: real servers, real files."""

import json
import lzma
import pathlib
import struct

from conftest import run, setup_store

ROOT = pathlib.Path(__file__).resolve().parents[2]
LONE = 190_000


class Store:
    """One drive; each block's newest bytes are known (None: removed)."""

    def __init__(self, memkv, servers, folder):
        self.memkv, self.servers, self.blocks = memkv, servers, {}
        self.drive = folder / "d0.memkv"
        self.config, self.key = setup_store(memkv, folder, "d0.memkv:24MiB")
        self.start()

    def start(self):
        self.server = self.servers("--config", self.config, "--no-shm")

    def call(self, *args, **kwargs):
        return self.memkv(*args, server=self.server, key=self.key, **kwargs)

    def put(self, key, data):
        assert self.call("put", key, "-", stdin=data).code == 0
        self.blocks[key] = data

    def remove(self, key):
        assert self.call("rm", key).code in (0, 1)
        self.blocks[key] = None

    def fill(self):
        """Two segments and more; the last changes are in the newest one."""
        for i in range(14):
            self.put(f"key{i}", bytes([i]) * LONE)
        self.put("key0", b"the newest")
        self.remove("key1")
        self.put("key2", b"the newest, too")

    def check(self):
        """The newest or a miss. Returns how many are misses that should not be."""
        lost = 0
        for key, data in self.blocks.items():
            got = self.call("get", key)
            assert got.code in (0, 1), got
            assert got.code == 1 or got.out == data, key
            lost += got.code == 1 and data is not None
        return lost

    def status(self):
        return json.loads(self.call("status", "--json").text)["servers"][0]["status"]

    def newest_header(self):
        data = self.drive.read_bytes()
        headers = [at for at in range(0, len(data), 4096) if data[at : at + 8] == b"MKV_SEG1"]
        return max(headers, key=lambda at: struct.unpack_from("<Q", data, at + 48))

    def poke(self, offset, data):
        with open(self.drive, "r+b") as file:
            file.seek(offset)
            file.write(data)


def test_case_a2_a_flipped_bit_in_the_newest_segment_header(memkv, servers, tmp_path):
    store = Store(memkv, servers, tmp_path)
    store.fill()
    assert store.server.stop() == 0
    header = store.newest_header()
    store.poke(header + 100, b"\x01")
    store.start()
    assert store.check() == 0
    assert store.status()["counters"]["recovered_rot"] > 0
    assert "is lost" in store.server.log()


def test_case_a5_half_a_drive_zeroed(memkv, servers, tmp_path):
    store = Store(memkv, servers, tmp_path)
    store.fill()
    assert store.server.stop() == 0
    size = store.drive.stat().st_size
    header = store.newest_header()
    store.poke(header, bytes(size - header))  # the newest segment and all behind it
    store.start()
    assert store.check() > 0
    status = store.status()
    assert status["degraded"] and status["counters"]["recovered_lost"] == 1
    store.put("key3", b"anew")
    store.remove("key4")
    store.blocks = {k: v for k, v in store.blocks.items() if store.call("exists", k).code == 0 or v is None}
    store.server.kill()
    store.start()
    assert store.check() == 0
    assert not store.status()["degraded"]


def test_a_store_of_format_version_1_is_opened_and_is_of_version_2_then(memkv, servers, tmp_path):
    """tests/golden/data-file/version-1.xz is a drive that a program of version 1 wrote."""
    drive = tmp_path / "drive"
    drive.write_bytes(lzma.decompress((ROOT / "tests/golden/data-file/version-1.xz").read_bytes()))
    key = "4af51ce47568518574a5505d246278a417a90ddff2eb48018dd90fe0a6cb5214"
    config = tmp_path / "store.yaml"
    config.write_text(f"network:\n  auth_key: {key}\nstorage:\n  drives:\n    - media: {drive}\n")
    for start in range(2):
        server = servers("--config", config, "--no-shm")
        call = lambda *args: memkv(*args, server=server, key=key)
        assert call("get", "small").out == b"a small block "
        assert call("get", "twice").out == b"the second version"
        assert call("get", "large").out == b"large " * 600_000
        assert call("exists", "removed").code == 1
        assert ("format version 1" in server.log()) == (start == 0)
        assert server.stop() == 0
    assert struct.unpack_from("<I", drive.read_bytes(), 8)[0] == 2
