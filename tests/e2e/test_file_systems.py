"""Drive files on ext4, xfs and btrfs (docs/data-file.md, "What is promised when"): a kernel crash, and no room left.

The file system lies in an image. A copy of the image, taken while it is mounted, is what a kernel crash leaves: what the
file system had not yet written to its drive is not in it. Power cuts need the guest: tools/guest_power.sh."""

import contextlib
import subprocess

import pytest
from conftest import setup_store

MAKE = {"ext4": ["mkfs.ext4", "-q", "-F"], "xfs": ["mkfs.xfs", "-q", "-f"], "btrfs": ["mkfs.btrfs", "-q", "-f"]}
MOUNT_OPTIONS = {"ext4": "commit=300", "xfs": "nouuid", "btrfs": "commit=300"}  # nothing is written by itself meanwhile
IMAGE_BYTES = {"ext4": 80 << 20, "xfs": 320 << 20, "btrfs": 160 << 20}  # near the smallest that each can be
BLOCKS = {f"b{i}": bytes([i + 1]) * (i * 400_007 + 1) for i in range(4)}


def tool(*argv):
    return subprocess.run([str(a) for a in argv], check=True, capture_output=True)


@contextlib.contextmanager
def mounted(kind, image, folder):
    folder.mkdir()
    tool("mount", "-t", kind, "-o", f"loop,{MOUNT_OPTIONS[kind]}", image, folder)
    try:
        yield folder
    finally:
        tool("umount", "--lazy", folder)  # after a failure a server still has files open


def make_file_system(kind, image):
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES[kind])
    tool(*MAKE[kind], image)


def change_everything(memkv, server, key):
    """Puts all blocks twice, then removes one."""
    for version in (b"old", b""):
        for name, block in BLOCKS.items():
            assert memkv("put", name, "-", stdin=version + block, server=server, key=key).code == 0
    assert memkv("rm", "b0", server=server, key=key).code == 0


def check_everything(memkv, server, key):
    assert memkv("get", "b0", server=server, key=key).code == 1
    for name, block in BLOCKS.items():
        assert name == "b0" or memkv("get", name, server=server, key=key).out == block, name


def protect(config):
    """The owner says that the drive keeps its cache: nothing is flushed."""
    text = config.read_text()
    at = text.index("\n", text.index("- media:"))
    config.write_text(text[:at] + "\n      power_loss_protection: true" + text[at:])


def fill_up(folder):
    size, count = 64 << 20, 0
    while size >= 4096:
        count += 1
        if subprocess.run(["fallocate", "-l", str(size), folder / f"filler{count}"], capture_output=True).returncode != 0:
            size //= 2


@pytest.mark.parametrize("kind", MAKE)
def test_a_kernel_crash_loses_nothing_that_was_acknowledged(memkv, servers, tmp_path, kind):
    make_file_system(kind, tmp_path / "image")
    with mounted(kind, tmp_path / "image", tmp_path / "before") as folder:
        config, key = setup_store(memkv, folder, "d0.memkv:40MiB")
        protect(config)  # with flushes it is a power cut, which the guest shows
        tool("sync", "-f", folder)
        server = servers("--config", config, "--memory", "64MiB")
        change_everything(memkv, server, key)
        tool("cp", "--sparse=always", tmp_path / "image", tmp_path / "crashed")
        server.kill()
        moved = config.read_text().replace(str(folder), str(tmp_path / "after"))
    (tmp_path / "image").unlink()
    with mounted(kind, tmp_path / "crashed", tmp_path / "after") as folder:
        config = folder / "store.yaml"
        config.write_text(moved)
        server = servers("--config", config, "--memory", "64MiB")
        check_everything(memkv, server, f"@{folder}/store.key")
        assert server.stop() == 0


@pytest.mark.parametrize("kind", MAKE)
def test_a_full_file_system_stops_no_write(memkv, servers, tmp_path, kind):
    make_file_system(kind, tmp_path / "image")
    with mounted(kind, tmp_path / "image", tmp_path / "full") as folder:
        config, key = setup_store(memkv, folder, "d0.memkv:40MiB")
        fill_up(folder)
        server = servers("--config", config, "--memory", "64MiB")
        for _ in range(2):
            change_everything(memkv, server, key)
        check_everything(memkv, server, key)
        assert server.stop() == 0
