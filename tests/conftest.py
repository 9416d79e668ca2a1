"""What every test shares: where nothing may be skipped, a display or browser test that did not run is a failure."""

import os

import pytest

NEEDS_A_SCREEN = ("display", "browser")
NOTHING_MAY_BE_SKIPPED = os.environ.get("HELIOS_WORLD_CI") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    return refuse_skip(report) if any(item.get_closest_marker(name) for name in NEEDS_A_SCREEN) else report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return refuse_skip((yield))


def refuse_skip(report):
    """The report as a failure, if it is a skip and this is the build machine."""
    if NOTHING_MAY_BE_SKIPPED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped although HELIOS_WORLD_CI=1: {report.longrepr}"
    return report
