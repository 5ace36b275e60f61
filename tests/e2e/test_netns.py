"""Servers behind links of one rate each, in network namespaces that the test makes: adding a server adds its full bandwidth."""

import json
import os
import subprocess

import pytest
from conftest import BIN, DRAWN_KEY, Server, clean_environment

RATE = "400mbit"
MADE = os.getpid() % 1000


def sh(*argv):
    subprocess.run([str(a) for a in argv], check=True, capture_output=True)


class Fleet:
    """N namespaces, each with a server and a veth link to this one that is limited both ways."""

    def __init__(self, folder, count):
        self.folder, self.count, self.servers, self.spaces = folder, count, [], []

    def __enter__(self):
        for i in range(self.count):
            self.add(i)
        return self

    def add(self, i):
        space, near, far = f"mkv{MADE}s{i}", f"mkv{MADE}n{i}", f"mkv{MADE}f{i}"
        net = f"198.19.{i}"
        sh("ip", "netns", "add", space)
        self.spaces.append(space)
        sh("ip", "link", "add", near, "type", "veth", "peer", "name", far)
        sh("ip", "link", "set", far, "netns", space)
        sh("ip", "addr", "add", f"{net}.1/24", "dev", near)
        sh("ip", "link", "set", near, "up")
        sh("ip", "netns", "exec", space, "ip", "addr", "add", f"{net}.2/24", "dev", far)
        sh("ip", "netns", "exec", space, "ip", "link", "set", far, "up")
        sh("ip", "netns", "exec", space, "ip", "link", "set", "lo", "up")
        for prefix, device in ((), near), (("ip", "netns", "exec", space), far):
            sh(*prefix, "tc", "qdisc", "add", "dev", device, "root", "tbf", "rate", RATE, "burst", "256k", "latency", "20ms")
        config = self.folder / f"server{i}.yaml"
        config.write_text(f"network:\n  auth_key: {DRAWN_KEY}\n")
        self.servers.append(Server(self.folder, "--config", config, "--mode", "memory", "--memory", "256MiB", "--workers", "1", address=f"{net}.2:9900",
                                   prefix=("ip", "netns", "exec", space)))

    def __exit__(self, *_):
        for server in self.servers:
            server.kill()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], capture_output=True)


def test_linear_scaling_over_limited_links(tmp_path):
    if os.geteuid() != 0:
        pytest.fail("needs root to make network namespaces")
    with Fleet(tmp_path, 4) as fleet:
        addresses = ",".join(s.address for s in fleet.servers)
        result = subprocess.run(
            [str(BIN / "memkv-bench"), "scaling", "--transport", "tcp", "--servers", addresses, "--auth-key", DRAWN_KEY, "--sizes", "1MiB", "--bytes", "192MiB", "--threads", "2",
             "--json", str(tmp_path / "scaling.json")], capture_output=True, text=True, env=clean_environment(), timeout=280)
        assert result.returncode == 0, result.stdout + result.stderr
        print(result.stdout)
        rows = json.loads((tmp_path / "scaling.json").read_text())["scaling"]
        for row in rows:
            if row["servers"] in (2, 4):
                assert row["write_ratio"] >= 0.95, result.stdout
                assert row["read_ratio"] >= 0.95, result.stdout
