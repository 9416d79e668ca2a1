"""How long silence may last: short where answers are quick, longer where they are not, and longer with each try."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios_world.bridge.patience import Patience


def after(*answers, tries=0, greeting=None):
    patience = Patience()
    if greeting is not None:
        patience.greeted(greeting)
    for answer in answers:
        patience.answered(answer)
    for _ in range(tries):
        patience.tried()
    return patience


def test_a_quick_server_is_missed_within_half_a_second_and_a_slow_one_is_waited_for():
    assert after(0.02, 0.03).limit(greeted=True) == pytest.approx(0.46)
    assert after(2.0, 0.03).limit(greeted=True) == pytest.approx(4.4)
    assert after().limit(greeted=True) == pytest.approx(1.5), "who knows nothing waits as for anybody"
    assert after(9.0, *[0.03] * 8).limit(greeted=True) == pytest.approx(0.46), "what was long ago is forgotten"


def test_the_quickest_greeting_counts_as_others_waited_for_a_server():
    patience = after(greeting=0.01)
    patience.greeted(30.0)
    assert patience.limit(greeted=False) == pytest.approx(0.42)
    assert after(0.02).limit(greeted=False) == pytest.approx(1.5)


@given(st.floats(0, 20), st.integers(0, 60))
def test_each_try_waits_longer_but_never_for_ever_and_an_answer_ends_that(answer, tries):
    short, long = (after(answer, tries=n).limit(greeted=True) for n in (tries, tries + 1))
    assert short <= long <= max(5.0, 0.4 + 2 * answer)
    patience = after(answer, tries=tries)
    patience.answered(answer)
    assert patience.limit(greeted=True) == pytest.approx(0.4 + 2 * answer)
