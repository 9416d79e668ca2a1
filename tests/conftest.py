"""What every test shares: on the build machine, a display or browser test that did not run is a failure."""

import os

import pytest

NEEDS_A_SCREEN = ("display", "browser")
NOTHING_MAY_BE_SKIPPED = os.environ.get("HELIOS_WORLD_CI") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if NOTHING_MAY_BE_SKIPPED and report.skipped and any(item.get_closest_marker(name) for name in NEEDS_A_SCREEN):
        report.outcome = "failed"
        report.longrepr = f"skipped although HELIOS_WORLD_CI=1: {report.longrepr}"
    return report
