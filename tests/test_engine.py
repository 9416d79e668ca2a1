"""Sessions and batches: restore equals going on, a fork is a twin, a batch equals singles."""

import numpy as np
import pytest

from helios_world import Action, UserError, WorldEngine
from helios_world.testing import FAKE_CARD, GAME_CARD, FakeWorldModel
from helios_world.world import Outcome, Start

TURN = Action.of("turn_left")
WALK = (Action.of("forward", "turn_right"), TURN, Action(), Action.of("attack"))


def engine(**options) -> WorldEngine:
    return WorldEngine(FakeWorldModel(), **options)


def play(session, actions):
    return np.stack([session.step(action).frames for action in actions])


def test_restore_equals_going_on():
    session, _ = engine().open(seed=3)
    play(session, WALK)
    saved = session.snapshot()
    went_on = play(session, WALK)
    session.restore(saved)
    assert np.array_equal(went_on, play(session, WALK))
    elsewhere, _ = engine().open("hall", seed=9)
    elsewhere.restore(saved)
    assert np.array_equal(went_on, play(elsewhere, WALK))


def test_a_fork_diverges_by_its_actions_alone():
    session, _ = engine().open(seed=3)
    session.step(TURN)
    twin = session.fork()
    assert np.array_equal(play(session, WALK), play(twin, WALK))
    assert not np.array_equal(play(session, [TURN]), play(twin, [Action()]))


@pytest.mark.parametrize("max_batch", [1, 2, 8])
def test_a_batch_equals_singles_whatever_its_limit(max_batch):
    together = engine(max_batch=max_batch)
    sessions = [together.open(seed=seed)[0] for seed in range(3)]
    chunks = together.step(sessions, WALK[:3])
    for seed, (action, chunk) in enumerate(zip(WALK, chunks, strict=False)):
        alone, _ = engine().open(seed=seed)
        assert np.array_equal(alone.step(action).frames, chunk.frames)
        assert chunk.index == 1 and chunk.seconds >= 0


def test_working_ahead_changes_nothing_and_is_used_once():
    ahead = engine()
    session, _ = ahead.open(seed=1)
    plain, _ = engine().open(seed=1)
    ahead.prepare([session])
    assert session.context is not None
    assert np.array_equal(session.step(TURN).frames, plain.step(TURN).frames)
    assert session.context is None


def test_a_failing_step_changes_no_session():
    class FailsOnSecondBatch(FakeWorldModel):
        calls = 0

        def step(self, states, actions, contexts=None):
            self.calls += 1
            if self.calls == 2:
                raise RuntimeError("out of memory")
            return super().step(states, actions, contexts)

    failing = WorldEngine(FailsOnSecondBatch(), max_batch=1)
    sessions = [failing.open(seed=seed)[0] for seed in (1, 2)]
    before = [session.state for session in sessions]
    with pytest.raises(RuntimeError):
        failing.step(sessions, [TURN, TURN])
    assert [session.state for session in sessions] == before


def test_a_reset_starts_over():
    session, first = engine().open(seed=4)
    play(session, WALK)
    again = session.reset(seed=4)
    assert again.index == 0 and np.array_equal(again.frames, first.frames)
    assert session.step().index == 1
    assert session.reset("hall", seed=4).index == 0 and session.state.scene == "hall"


def test_a_session_starts_from_real_material():
    video = np.random.default_rng(0).integers(0, 256, (6, *FAKE_CARD.frame_shape), np.uint8)
    _, chunk = engine().open(start=Start(video=video, actions=np.zeros((6, 7))))
    assert np.array_equal(chunk.frames, video[-4:])
    _, chunk = engine().open(start=Start(image=video[0]))
    assert np.array_equal(chunk.frames[-1], video[0])


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (Start(image=np.zeros((64, 80, 3))), r"image is float64 of shape \(64, 80, 3\): must be uint8 \(64, 80, 3\)"),
        (Start(video=np.zeros((3, 64, 80, 3), np.uint8)), r"at least 4 \(one chunk\) are needed"),
        (Start(video=np.zeros((4, 80, 64, 3), np.uint8)), "must be uint8 "),
        (Start(actions=np.zeros((4, 7))), "need the video"),
        (Start(video=np.zeros((4, 64, 80, 3), np.uint8), actions=np.zeros((4, 6))), r"must be \(4, 7\)"),
        (Start(np.zeros((64, 80, 3), np.uint8), np.zeros((4, 64, 80, 3), np.uint8)), "not both"),
    ],
)
def test_material_that_does_not_fit_is_refused(start, words):
    with pytest.raises(UserError, match=words):
        engine().open(start=start)


def test_a_chunk_says_what_it_came_to_and_a_world_goes_on_after_its_end():
    session, first = WorldEngine(FakeWorldModel(GAME_CARD)).open(seed=1)
    assert first.outcome == Outcome()
    walk = [Action.of("attack"), Action(), Action.of("attack", "back"), Action.of("attack")]
    assert [session.step(action).outcome for action in walk] == [
        *(Outcome(1.0, False, 1.0, 0.0), Outcome()),
        *(Outcome(1.0, True, 1.0, 1.0), Outcome(1.0, False, 1.0, 0.0)),
    ]


def test_an_outcome_is_of_the_newest_chunk_alone_and_no_snapshot_holds_it():
    session, _ = WorldEngine(FakeWorldModel(GAME_CARD)).open()
    session.step(Action.of("attack", "back"))
    assert session.state.outcome.terminated
    session.restore(session.snapshot())
    assert session.state.outcome == Outcome()
    session.step(Action.of("back"))
    session.reset()
    assert session.state.outcome == Outcome()


def test_bad_options_are_refused():
    with pytest.raises(UserError, match="max_batch is 0"):
        engine(max_batch=0)
    with pytest.raises(UserError, match="unknown scene"):
        engine().open("moon")
    session, _ = engine().open()
    with pytest.raises(UserError, match="unknown button"):
        session.step(Action.of("jump"))
