"""Prompts over time: when a change acts, how it blends, and three faults of the reference that must not be here."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helios_world.errors import UserError
from helios_world.prompts import MOST_CHANGES, PromptTrack, blend


def weights(track, chunks, prompt):
    """Weight of `prompt` in each chunk."""
    return [round(dict(track.blend(chunk)).get(prompt, 0.0), 6) for chunk in chunks]


def seven_each():
    """The reference's example: three prompts for seven chunks each, three chunks to go over."""
    return PromptTrack.start("a").queue("b", after=7, over=3).queue("c", after=7, over=3)


def test_the_length_is_not_the_sum_of_the_starts_of_the_prompts():
    """The reference generates sum([7, 14, 21]) = 42 chunks where the schedule is over after 21."""
    track = seven_each()
    assert [change.at for change in track.changes] == [7, 14]
    assert track.settled_from == 16


def test_after_the_last_prompt_it_stays_and_the_first_does_not_come_back():
    """The reference falls back to prompt 0 from chunk 21 on."""
    track = seven_each()
    assert all(track.blend(chunk) == (("c", 1.0),) for chunk in range(16, 200))
    assert track.at(500).blend() == (("c", 1.0),)


def test_the_first_chunk_after_a_change_has_a_share_of_it():
    """The reference's weights are 0, 1/2, 1: its first chunk is still the old prompt."""
    track = seven_each()
    assert weights(track, range(5, 11), "b") == [0, 0, 0.333333, 0.666667, 1, 1]
    assert weights(PromptTrack.start("a", 4).change("b"), range(4, 7), "b") == [1, 1, 1], "over=1 is a cut"
    assert weights(PromptTrack.start("a").change("b", over=4), range(5), "b") == [0.25, 0.5, 0.75, 1, 1]


def test_a_change_acts_in_the_next_chunk_and_not_before():
    track = PromptTrack.start("a").at(5).change("b", over=2)
    assert track.blend() == (("a", 0.5), ("b", 0.5)) and track.chunk == 5
    with pytest.raises(UserError, match="chunk 4 is over"):
        track.blend(4)
    with pytest.raises(UserError, match="chunk 4 is over: the next one is 5"):
        track.at(4)


def test_a_change_during_a_change_starts_from_the_present_blend():
    track = PromptTrack.start("a").change("b", over=4).at(2).change("c", over=2)
    assert dict(track.blend(2)) == {"a": 0.25, "b": 0.25, "c": 0.5}, "chunk 1 was half a, half b"
    assert track.blend(3) == (("c", 1.0),)
    back = PromptTrack.start("a").change("b", over=4).at(2).change("a", over=4)
    assert weights(back, range(2, 6), "a") == [0.625, 0.75, 0.875, 1], "the way back begins at one half"


def test_the_queue():
    track = PromptTrack.start("a").at(10)
    assert [c.at for c in track.queue("b", over=3).queue("c").queue("d", after=2).changes] == [10, 13, 15]
    assert [c.at for c in track.queue("b", at_chunk=30).queue("c", at_chunk=20).changes] == [20, 30], "in order"
    replaced = track.queue("b", at_chunk=20, over=5).queue("c", at_chunk=20)
    assert replaced.blend(20) == (("c", 1.0),) and len(replaced.changes) == 1
    now = track.queue("b", at_chunk=20).change("c", over=2)
    assert weights(now, (10, 11, 19), "c") == [0.5, 1, 1] and now.blend(20) == (("b", 1.0),), "the queue stays"
    twice = track.change("b", over=3).change("c")
    assert twice.blend() == (("c", 1.0),), "of two changes before the same chunk the last one counts"
    late = track.change("b", over=3).at(50).queue("c", after=7)
    assert [c.at for c in late.changes] == [57], "after: counted from now, if the last change is long ago"


def test_cancelling_drops_what_has_not_begun():
    track = PromptTrack.start("a").change("b", over=4).queue("c", at_chunk=9).queue("d", at_chunk=12)
    begun = track.at(2)
    assert begun.cancel().blend(100) == (("b", 1.0),), "the running change goes on"
    assert weights(begun.cancel(), (2, 3), "b") == [0.75, 1]
    assert begun.cancel(9).blend(11) == (("b", 1.0),) and begun.cancel(9).blend(12) == (("d", 1.0),)
    assert track.cancel().blend(100) == (("a", 1.0),), "nothing had begun"
    assert PromptTrack.start("a").cancel() == PromptTrack.start("a")
    with pytest.raises(UserError, match=r"nothing waits for chunk 10: changes wait for \[9, 12\]"):
        begun.cancel(10)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ({"over": 0}, "over is 0: must be a whole number from 1 on"),
        ({"over": 1.5}, "over is 1.5"),
        ({"at_chunk": 4}, "at_chunk is 4: must be a whole number from 5 on"),
        ({"after": -1}, "after is -1"),
        ({"after": 1, "at_chunk": 9}, "give at_chunk or after, not both"),
    ],
)
def test_mistakes_are_one_line(words, text):
    with pytest.raises(UserError, match=text):
        PromptTrack.start("a", 5).queue("b", **words)
    with pytest.raises(UserError, match="prompt is a NoneType: must be text"):
        PromptTrack.start("a").change(None)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"base": [["a", 1.0]], "changes": [{"prompt": "b"}], "chunk": 0},
        {"base": [["a", 0.5]], "changes": [], "chunk": 0},
        {"base": [["a", 1.5], ["b", -0.5]], "changes": [], "chunk": 0},
        {"base": [["a", 1.0]], "changes": [{"prompt": "b", "at": 3, "over": 0}], "chunk": 0},
        {"base": [["a", 1.0]], "changes": [{"prompt": p, "at": 3, "over": 1} for p in "bc"], "chunk": 0},
        {"base": [["a", 1.0]], "changes": [], "chunk": float("inf")},
        [],
    ],
)
def test_damaged_prompts_are_refused(values):
    with pytest.raises(UserError, match="prompts are damaged"):
        PromptTrack.from_dict(values)


def test_the_queue_has_an_end():
    track = PromptTrack.start("a")
    for _ in range(MOST_CHANGES):
        track = track.queue("b")
    with pytest.raises(UserError, match="1024 changes of the prompt wait already: at most 1024 may"):
        track.queue("c")
    assert track.queue("c", at_chunk=1).at(2).base == (("c", 1.0),), "what waits may still be replaced"


events = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(1, 6), st.integers(0, 4), st.sampled_from(["change", "queue"])),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(events)
def test_whatever_is_asked_for_nothing_jumps_or_reverts(asked):
    track, before, allowed = PromptTrack.start("a"), {"a": 1.0}, 0.0
    last = "a"
    for prompt, over, wait, verb in asked:
        track = track.change(prompt, over=over) if verb == "change" else track.queue(prompt, after=wait, over=over)
        assert PromptTrack.from_dict(json.loads(json.dumps(track.to_dict()))) == track
        ahead = [track.blend(chunk) for chunk in range(track.chunk, track.chunk + 60)]
        for _ in range(wait):
            running = [change for change in track.changes if change.at <= track.chunk]
            allowed = 1 / running[-1].over if running else 0.0
            now = track.blend()
            assert sum(weight for _, weight in now) == pytest.approx(1) and all(weight > 0 for _, weight in now)
            moved = {text: dict(now).get(text, 0.0) - before.get(text, 0.0) for text in {*dict(now), *before}}
            assert all(abs(step) <= allowed + 2e-3 for step in moved.values()), "a step is at most 1/over"
            before = dict(now)
            track = track.at(track.chunk + 1)
            ahead = ahead[1:]
            assert [track.blend(track.chunk + i) for i in range(len(ahead))] == ahead, "moving on changes nothing"
        last = track.changes[-1].prompt if track.changes else track.base[-1][0]
    assert track.blend(track.settled_from + 10) == ((last, 1.0),)


def test_a_long_session_keeps_no_past():
    track = PromptTrack.start("start")
    for chunk in range(300):
        track = track.at(chunk).change(f"prompt {chunk}", over=3)
    assert len(track.changes) == 2 and len(track.blend()) < 25, "texts of under a thousandth are left out"
    assert sum(weight for _, weight in track.blend()) == pytest.approx(1)


def test_embeddings_blend_by_weight():
    one, two = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    assert blend([(one, 1.0)]) is one
    assert torch.allclose(blend([(one, 0.25), (two, 0.75)]), torch.lerp(one, two, 0.75))
    half = blend([(one.bfloat16(), 1 / 3), (two.bfloat16(), 2 / 3)])
    exact = one.bfloat16().float() * (1 / 3) + two.bfloat16().float() * (2 / 3)
    assert half.dtype == torch.bfloat16 and torch.equal(half, exact.bfloat16()), "rounded once"
