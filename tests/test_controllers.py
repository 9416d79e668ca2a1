"""Controllers: taps survive, the same seed walks the same walk, and files that are wrong say where."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helios_world.action import Action
from helios_world.controllers import (
    ExplorerController,
    Keyboard,
    RandomController,
    Recorder,
    Recording,
    Replay,
    ScriptController,
    check_bindings,
    keys_by_button,
    parse_script,
    read_script,
)
from helios_world.engine import WorldEngine
from helios_world.errors import UserError
from helios_world.testing import FAKE_CARD, FakeWorldModel

BUTTONS = FAKE_CARD.buttons


def take(controller, chunks):
    return [controller.act(None) for _ in range(chunks)]


def test_a_tap_between_two_chunks_acts_once():
    keyboard = Keyboard({"w": "forward"})
    keyboard.press("w")
    keyboard.release("w")
    assert keyboard.held == frozenset()
    assert take(keyboard, 2) == [Action.of("forward"), Action()]


def test_a_button_with_two_keys_is_held_until_both_are_up():
    keyboard = Keyboard({"w": "forward", "up": "forward"})
    keyboard.press("w")
    keyboard.press("up")
    keyboard.release("w")
    assert keyboard.held == {"forward"}
    keyboard.release("up")
    assert keyboard.held == frozenset()


def test_unbound_keys_do_nothing_and_release_all_lets_go():
    keyboard = Keyboard({"w": "forward", "left": "turn_left"})
    keyboard.press("q")
    keyboard.release("q")
    keyboard.press("w")
    keyboard.press("left")
    assert keyboard.held == {"forward", "turn_left"}
    keyboard.release_all()
    keyboard.act(None)
    assert keyboard.act(None) == Action()


def test_bindings_are_checked():
    assert check_bindings(FAKE_CARD.bindings, BUTTONS) == dict(FAKE_CARD.bindings)
    assert keys_by_button({"w": "forward", "up": "forward"}) == {"forward": ["w", "up"]}
    with pytest.raises(UserError, match=r"unknown button 'fly': choose from forward"):
        check_bindings({"w": "fly"}, BUTTONS)
    with pytest.raises(UserError, match=r"unknown key 'wq'"):
        check_bindings({"wq": "forward"}, BUTTONS)
    with pytest.raises(UserError, match=r"key 'r' is bound to 'forward'.* taken by the window"):
        check_bindings({"r": "forward"}, BUTTONS, reserved=("r",))


def test_the_random_walk_depends_on_its_seed_alone_and_keeps_going():
    first, again, other = (take(RandomController(BUTTONS, seed), 400) for seed in (3, 3, 4))
    assert first == again != other
    assert sum("forward" in action.buttons for action in first) > 200
    assert {"turn_left", "turn_right"} <= {button for action in first for button in action.buttons}
    changes = sum(a != b for a, b in pairwise(first))
    assert changes < 150, "combinations must be kept for several chunks"


def test_a_random_walk_in_a_world_with_other_buttons_holds_only_those():
    held = {button for action in take(RandomController(("jump",), 0), 200) for button in action.buttons}
    assert held == {"jump"}


def test_a_negative_seed_is_refused():
    with pytest.raises(UserError, match="seed is -1"):
        RandomController(BUTTONS, -1)


def test_a_script_holds_what_it_says_and_starts_over():
    steps = parse_script("2 forward turn_left  # round the corner\n\n1\n", BUTTONS)
    corner = Action.of("forward", "turn_left")
    assert take(ScriptController(steps), 5) == [corner, corner, Action(), corner, corner]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("3 forward\nforward 3", r"moves, line 2: starts with 'forward': must be how many chunks"),
        ("0 forward", r"line 1: starts with '0'"),
        ("-2 forward", r"line 1: starts with '-2'"),
        ("9999999999 forward", r"line 1: starts with"),
        ("\n# x\n2 fly", r"moves, line 3: unknown button 'fly': choose from forward"),
        ("# nothing\n", r"moves: holds no line such as"),
    ],
)
def test_a_wrong_script_names_its_line(text, complaint):
    with pytest.raises(UserError, match=complaint):
        parse_script(text, BUTTONS, "moves")


def test_an_unreadable_script_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"cannot read script .*gone.txt: No such file"):
        read_script(tmp_path / "gone.txt", BUTTONS)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        read_script(tmp_path / "binary", BUTTONS)


def test_the_built_in_script_walks_turns_both_ways_and_fills_ten_seconds():
    actions = take(ScriptController.default(BUTTONS), 44)
    held = {button for action in actions for button in action.buttons}
    assert {"forward", "turn_left", "turn_right"} <= held
    assert take(ScriptController.default(BUTTONS), 88)[44:] == actions, "it is exactly ten seconds long"
    assert take(ScriptController.default(("jump",)), 3) == [Action()] * 3


def test_replay_equals_recording(tmp_path):
    engine = WorldEngine(FakeWorldModel())
    session, _ = engine.open("hall", seed=5)
    recorder = Recorder(RandomController(BUTTONS, 1), world="fake", scene="hall", seed=5, dtype="float32")
    seen, frames = [], None
    for _ in range(30):
        frames = session.step(recorder.act(frames)).frames
        seen.append(frames)
    recorder.recording.write(tmp_path / "walk.json")

    recording = Recording.read(tmp_path / "walk.json").check_buttons(BUTTONS)
    assert recording == recorder.recording
    replay = Replay(recording)
    twin, _ = engine.open(recording.scene, seed=recording.seed)
    again = [twin.step(replay.act(None)).frames for _ in recording.actions]
    assert np.array_equal(np.stack(seen), np.stack(again))
    assert replay.act(None) == Action(), "nothing is held after the end"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "damaged or not one of ours"),
        ("[" * 100_000, "damaged or not one of ours"),
        ("[]", "not of format 'helios-world-replay-1'"),
        ('{"format": "other"}', "not of format"),
        ('{"format": "helios-world-replay-1"}', "'world' is missing or not of type str"),
        (
            '{"format":"helios-world-replay-1","world":"a","scene":"b","seed":true,"dtype":"","actions":[]}',
            "'seed' is missing or not of type int",
        ),
        (
            '{"format":"helios-world-replay-1","world":"a","scene":"b","seed":1,"dtype":"","actions":["forward"]}',
            "must be lists of button names",
        ),
    ],
)
def test_a_damaged_replay_is_a_user_error(tmp_path, text, complaint):
    (tmp_path / "bad.json").write_text(text)
    with pytest.raises(UserError, match=complaint):
        Recording.read(tmp_path / "bad.json")


def test_a_truncated_replay_never_passes(tmp_path):
    path = tmp_path / "walk.json"
    Recording("w", "s", 1, "float32", (Action.of("forward"), Action())).write(path)
    data = path.read_bytes().rstrip()
    for size in range(len(data)):
        path.write_bytes(data[:size])
        with pytest.raises(UserError):
            Recording.read(path)


def test_a_replay_of_another_world_names_the_button():
    with pytest.raises(UserError, match="unknown button 'fly'"):
        Recording("w", "s", 0, "float32", (Action.of("fly"),)).check_buttons(BUTTONS)


@given(st.lists(st.frozensets(st.sampled_from(BUTTONS)), max_size=20), st.integers(), st.text())
def test_any_recording_comes_back_as_it_was(tmp_path_factory, actions, seed, scene):
    path = tmp_path_factory.getbasetemp() / "any.json"
    recording = Recording("world", scene, seed, "bfloat16", tuple(Action(buttons) for buttons in actions))
    recording.write(path)
    assert Recording.read(path) == recording


def test_an_explorer_walks_on_while_there_is_something_to_see_that_moves_and_turns_at_a_wall():
    wall = np.full((4, 128, 160, 3), 90, np.uint8)
    way = wall.copy()
    for t, frame in enumerate(way):
        frame[:, 70 + 5 * t : 90 + 5 * t] = 200
    explorer = ExplorerController(BUTTONS, seed=1)
    assert explorer.act(None) == Action.of("forward")
    seen = [explorer.act(way) for _ in range(200)]
    assert 100 < seen.count(Action.of("forward")) < 200, "it mostly walks, and turns on a whim"
    turns = [explorer.act(wall) for _ in range(20)]
    assert set(turns[8:]) <= {Action.of("turn_left"), Action.of("turn_right")}
    stuck = [explorer.act(np.repeat(way[:1], 4, axis=0)) == Action.of("forward") for _ in range(60)]
    assert any(stuck) and not any(map(all, pairwise(stuck))), "one try to walk on, then another turn"
    again = ExplorerController(BUTTONS, seed=1)
    assert [again.act(None), *(again.act(way) for _ in range(200))] == [Action.of("forward"), *seen]


def test_an_explorer_needs_to_walk_and_turn():
    with pytest.raises(
        UserError, match="controller 'explorer' needs the button turn_right: this world has forward, turn_left"
    ):
        ExplorerController(("forward", "turn_left"), seed=0)
