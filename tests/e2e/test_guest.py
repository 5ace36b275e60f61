"""Real NVMe controllers in a guest: setup finds twelve drives, a verified sweep, a power cut, and everything acknowledged is there.
Drives that leave a running server: one is pulled, one hangs."""

import subprocess

import pytest
from conftest import ROOT, clean_environment


@pytest.mark.timeout(600)
def test_twelve_nvme_drives_and_a_power_cut(tmp_path):
    result = subprocess.run([ROOT / "tools/guest_nvme.sh", tmp_path / "work"], capture_output=True, text=True, timeout=580, env=clean_environment())
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "20 acknowledged blocks are byte-exact" in result.stdout


@pytest.mark.timeout(600)
def test_a_drive_that_is_pulled_and_one_that_hangs(tmp_path):
    result = subprocess.run([ROOT / "tools/guest_drives.sh", tmp_path / "work"], capture_output=True, text=True, timeout=580, env=clean_environment())
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "guest: drives left and came back empty, and no old block revived" in result.stdout


@pytest.mark.timeout(400)
def test_case_c3_limits_of_cgroup_version_2_and_a_host_with_one_congestion_control(tmp_path):
    result = subprocess.run([ROOT / "tools/guest_limits.sh", tmp_path / "work"], capture_output=True, text=True, timeout=380, env=clean_environment())
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "4 passed" in result.stdout and "skipped" not in result.stdout, result.stdout[-6000:]
