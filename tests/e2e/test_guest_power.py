"""Power cuts, kernel crashes and full file systems on raw drives, ext4, xfs and btrfs, in a guest. Some minutes: ./dev guest --all."""

import os
import subprocess

import pytest
from conftest import ROOT, clean_environment

KINDS = ["raw", "ext4", "xfs", "btrfs"]


if os.environ.get("GUEST") == "all":  # CI has the model tests of power cuts, and a reset of twelve raw drives

    @pytest.mark.timeout(3900)
    def test_a_power_cut_and_a_kernel_crash_on_every_file_system(tmp_path):
        result = subprocess.run([ROOT / "tools/guest_power.sh", tmp_path / "work"], capture_output=True, text=True, errors="replace", timeout=3800, env=clean_environment())
        assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
        said = result.stdout
        assert all(f"power cut, {kind}: every acknowledged change is there" in said for kind in KINDS)
        assert "power cut, raw, wrongly declared protected" in said
        for kind in KINDS[1:]:
            for how in ["flushed", "protected"]:
                assert f"kernel crash, {kind}, {how}: every acknowledged change is there" in said
