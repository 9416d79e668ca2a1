"""`helios-world bench bridge` in small: a case of each kind gives figures that can be true."""

import pytest

from helios_world.demos import bench_bridge, bench_rivals


@pytest.mark.parametrize("options", [{}, {"locked": True}, {"clients": 3}, {"slow": 1}], ids=str)
def test_a_case_measures_frames_that_came(options):
    found = bench_bridge.case(1.0, "160x128", "jpeg", **options)
    assert 0 < found["age_ms_p50"] <= found["age_ms_p95"] <= found["age_ms_p99"]
    assert 5 < found["fps_per_client"] < 26 and found["mib_per_s"] > 0 and 0 <= found["stale_share"] <= 1


@pytest.mark.parametrize("rival", [bench_rivals.request_reply, bench_rivals.websocket])
def test_rivals_are_measured_in_the_same_way(rival):
    found = rival(1.0, "160x128")
    assert 0 < found["age_ms_p50"] <= found["age_ms_p99"] and 5 < found["fps_per_client"] < 27


def test_hops_make_up_the_way_from_input_to_pixels():
    found = bench_bridge.hops(1.0, "160x128", "jpeg")
    assert list(found) == [f"{hop}_ms_p50" for hop in ("input_to_server", "made", "encoded_and_sent", "decoded")]
    assert all(0 < value < 200 for value in found.values())
