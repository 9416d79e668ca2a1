"""`helios-world bench bridge` in small: a case of each kind gives figures that can be true."""

import pytest

from helios_world.demos import bench_bridge


@pytest.mark.parametrize("options", [{}, {"locked": True}, {"clients": 3}, {"slow": 1}], ids=str)
def test_a_case_measures_frames_that_came(options):
    found = bench_bridge.case(1.0, "160x128", "jpeg", **options)
    assert 0 < found["age_ms_p50"] <= found["age_ms_p95"] <= found["age_ms_p99"]
    assert 5 < found["fps_per_client"] < 26 and found["mib_per_s"] > 0 and 0 <= found["stale_share"] <= 1


def test_the_rival_is_measured_in_the_same_way():
    found = bench_bridge.request_reply(1.0, "160x128")
    assert 0 < found["age_ms_p50"] <= found["age_ms_p99"] and 5 < found["fps_per_client"] < 27
