"""What tests/support/processes.py has, for `from conftest import ...`, and its fixtures."""

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from processes import *  # noqa: E402,F403
