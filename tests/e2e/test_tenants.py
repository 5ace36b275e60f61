"""Each attack of rows B1 to B7 and A4 beside an honest tenant, for a second: nothing of it fails. `./dev tenants` measures how slow it gets, too."""

import sys

import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests/tenants"))

import tenants  # noqa: E402


@pytest.fixture(scope="module")
def rig(tmp_path_factory):
    options = tenants.parse(["--seconds", "1", "--lead", "0.5", "--drive", "512MiB", "--blocks", "30000"])
    return tenants.Rig(tmp_path_factory.mktemp("tenants"), options)


@pytest.mark.parametrize("row", tenants.ROWS, ids=lambda row: row.case.lower())
def test_case(rig, row):
    _, beside, said = tenants.run_row(rig, row, control=False)
    assert beside["get 4 KiB"].ops > 0
    assert {name: kind.reasons for name, kind in beside.items() if kind.failures} == {}, said
    assert tenants.held_bytes(said) <= row.shm_bytes, said
