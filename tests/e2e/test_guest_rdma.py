"""RDMA over soft-RoCE in a guest: see docs/rdma.md. What runs there fails and never skips; its rates are emulated."""

import os
import subprocess

import pytest
from conftest import ROOT, clean_environment

TESTS = ["units", "sweep2", "quiet", "faults", "broken", "order", "gpu", "nixl", "lossy"]
if os.environ.get("GUEST") == "all":  # ./dev guest --all: what the others show for the most part, and takes 25 minutes more
    TESTS += ["sweep1", "nixlbench", "nixl1", "nixl2"]


@pytest.mark.timeout(1600)
@pytest.mark.parametrize("name", TESTS)
def test_guest(name, tmp_path):
    result = subprocess.run([ROOT / "tools/guest_rdma.sh", name, tmp_path / "work"], capture_output=True, text=True, errors="replace", timeout=1580, env=clean_environment())
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert f"guest: {name} passed" in result.stdout
