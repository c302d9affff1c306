"""Idle workers do not take processors from busy ones."""

import os
import subprocess
import sys

import pytest

SHOW = "import os; import {package}; print(os.environ['OMP_WAIT_POLICY'])"


@pytest.mark.parametrize("package", ["recon", "phantoms"])
@pytest.mark.parametrize(("given", "kept"), [(None, "passive"), ("active", "active")])
def test_workers_sleep_unless_the_user_says_otherwise(package: str, given: str | None, kept: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    command = [sys.executable, "-c", SHOW.format(package=package)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == kept
