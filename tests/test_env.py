"""The Gymnasium face: its contract, its spaces, its options, and that it is one session and nothing more."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from helios_world import UserError, WorldEngine
from helios_world.action import Action
from helios_world.card import WorldCard
from helios_world.envs.action_space import KEY_CODES, discrete_actions
from helios_world.envs.world_env import HeliosWorldEnv
from helios_world.testing import FAKE_CARD, GAME_CARD, FakeWorldModel

ENV_ID = "helios_world:HeliosWorld-v0"


def fake_session(card: WorldCard = FAKE_CARD):
    return WorldEngine(FakeWorldModel(card)).open()[0]


def fake_env(**options) -> HeliosWorldEnv:
    return gym.make(ENV_ID, session=fake_session(), **options).unwrapped


@pytest.mark.parametrize("action_mode", ["discrete", "multibinary"])
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("card", [FAKE_CARD, GAME_CARD])
def test_gymnasium_accepts_the_env_without_a_warning(action_mode, render_mode, card):
    session = fake_session(card)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(gym.make(ENV_ID, session=session, action_mode=action_mode, render_mode=render_mode).unwrapped)


def test_the_id_works_whatever_was_imported_first():
    made = f"gymnasium.make({ENV_ID!r}, session=WorldEngine(FakeWorldModel()).open()[0]).reset(seed=1)"
    fakes = "from helios_world import WorldEngine; from helios_world.testing import FakeWorldModel"
    for first, second in [("helios_world", "gymnasium"), ("gymnasium", "helios_world")]:
        code = f"import {first}\nimport {second}\n{fakes}\n{made}"
        assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_observation_is_the_last_frame_of_the_chunk_in_info():
    env = fake_env()
    observation, info = env.reset(seed=5)
    assert observation.shape == FAKE_CARD.frame_shape and observation.dtype == np.uint8 and info["chunk"] == 0
    observation, reward, terminated, truncated, info = env.step(1)
    assert (reward, terminated, truncated, info["chunk"]) == (0.0, False, False, 1)
    assert info["frames"].shape == (FAKE_CARD.frames_per_chunk, *FAKE_CARD.frame_shape)
    assert np.array_equal(observation, info["frames"][-1])
    assert not np.shares_memory(observation, info["frames"])


def test_same_seed_and_actions_give_the_same_frames_and_another_seed_others():
    def rollout(seed):
        env = fake_env()
        env.reset(seed=seed)
        return np.stack([env.step(action)[4]["frames"] for action in (5, 0, 6, 1)])

    assert np.array_equal(rollout(3), rollout(3))
    assert not np.array_equal(rollout(3), rollout(4))


def test_the_env_shows_what_its_session_makes():
    env, session = fake_env(), fake_session()
    env.reset(seed=0)
    session.restore(env.snapshot())
    for index in (0, 5, 12):
        held = Action.of(*discrete_actions(FAKE_CARD.buttons)[index])
        assert np.array_equal(env.step(index)[4]["frames"], session.step(held).frames)


def test_restore_goes_back():
    env = fake_env()
    env.reset(seed=0)
    saved = env.snapshot()
    first = [env.step(6)[0] for _ in range(3)]
    env.restore(saved)
    assert np.array_equal(first, [env.step(6)[0] for _ in range(3)])


def test_discrete_actions_are_noop_then_buttons_then_walking_with_one_more():
    env = fake_env(action_mode="discrete")
    assert env.action_meanings == [
        *("noop", "forward", "back", "strafe_left", "strafe_right", "turn_left", "turn_right", "attack"),
        *("forward+strafe_left", "forward+strafe_right", "forward+turn_left", "forward+turn_right", "forward+attack"),
    ]
    assert env.action_space.n == len(env.action_meanings)
    assert discrete_actions(["jump"]) == [(), ("jump",)]


def test_multibinary_holds_the_buttons_that_are_one():
    env, twin = fake_env(action_mode="multibinary"), fake_env(action_mode="discrete")
    env.reset(seed=0), twin.reset(seed=0)
    assert env.action_space.shape == (len(FAKE_CARD.buttons),)
    held = [int(button in ("forward", "turn_left")) for button in FAKE_CARD.buttons]
    walk = twin.action_meanings.index("forward+turn_left")
    assert np.array_equal(env.step(held)[0], twin.step(walk)[0])


@pytest.mark.parametrize(
    ("action_mode", "action"),
    [("discrete", 13), ("discrete", -1), ("discrete", 0.5), ("multibinary", [1, 0]), ("multibinary", [2] * 7)],
)
def test_an_action_outside_the_space_is_refused(action_mode, action):
    env = fake_env(action_mode=action_mode)
    env.reset(seed=0)
    with pytest.raises(UserError, match="must be"):
        env.step(action)


def test_a_reset_starts_from_the_material_and_scene_in_options():
    env = fake_env()
    rng = np.random.default_rng(0)
    video = rng.integers(0, 256, (8, *FAKE_CARD.frame_shape), np.uint8)
    observation, info = env.reset(seed=0, options={"video": video, "actions": np.zeros((8, 7)), "scene": "hall"})
    assert np.array_equal(observation, video[-1]) and np.array_equal(info["frames"], video[-4:])
    assert np.array_equal(env.reset(options={"image": video[2]})[0], video[2])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"music": "loud"}, "unknown reset option music: choose from scene, image, video, actions, prompt"),
        ({"prompt": "a maze"}, "world 'fake' takes no prompt"),
        ({"scene": "moon"}, "unknown scene 'moon': choose from maze, hall"),
        ({"image": np.zeros((2, 2, 3), np.uint8)}, "image is uint8 of shape"),
        ({"video": np.zeros((4, 64, 80, 3))}, "video is float64"),
        ({"actions": np.zeros((4, 7))}, "need the video"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, words):
    with pytest.raises(UserError, match=words):
        fake_env().reset(options=options)


@pytest.mark.parametrize("option", [{"scene": "moon"}, {"action_mode": "mouse"}, {"render_mode": "human"}])
def test_the_constructor_names_what_is_allowed(option):
    with pytest.raises(UserError, match="choose from"):
        HeliosWorldEnv(session=fake_session(), **option)


def test_max_episode_steps_truncates():
    env = gym.make(ENV_ID, session=fake_session(), max_episode_steps=2)
    env.reset(seed=0)
    assert [env.step(0)[3] for _ in range(2)] == [False, True]


def test_nothing_works_before_a_reset():
    env = HeliosWorldEnv(session=fake_session(), render_mode="rgb_array")
    for call in (lambda: env.step(0), env.render, env.snapshot, lambda: env.restore(b"")):
        with pytest.raises(gym.error.ResetNeeded):
            call()


def test_render_gives_the_newest_frame_and_close_may_be_called_twice():
    env = fake_env(render_mode="rgb_array")
    env.reset(seed=0)
    assert np.array_equal(env.step(5)[0], env.render())
    env.close(), env.close()


def test_keys_mean_actions_of_the_space():
    discrete, multibinary = (fake_env(action_mode=mode) for mode in ("discrete", "multibinary"))
    names = discrete.get_keys_to_action()
    left = 0x40000050
    assert discrete.action_meanings[names[(ord("w"),)]] == "forward"
    assert discrete.action_meanings[names[(ord("w"), left)]] == "forward+turn_left"
    assert tuple(sorted((ord("s"), left))) not in names, "no discrete action holds back and turn_left"
    assert all(action in multibinary.action_space for action in multibinary.get_keys_to_action().values())


def test_the_key_codes_are_those_that_pygame_reports(monkeypatch):
    pygame = pytest.importorskip("pygame")
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    pygame.display.init()
    assert {name: pygame.key.key_code(name) for name in KEY_CODES} == KEY_CODES
    pygame.display.quit()


def test_reward_and_end_are_what_the_world_says():
    env = gym.make(ENV_ID, session=fake_session(GAME_CARD), action_mode="multibinary").unwrapped
    _, info = env.reset(seed=0)
    assert env.card.outcomes and (info["reward_chance"], info["end_chance"]) == (0.0, 0.0)
    told = []
    for held in ({"attack"}, set(), {"back"}, {"attack", "back"}, {"attack"}):
        _, reward, terminated, truncated, info = env.step([int(b in held) for b in GAME_CARD.buttons])
        assert type(reward) is float and type(terminated) is bool and not truncated
        told.append((reward, terminated, info["reward_chance"], info["end_chance"]))
    assert told == [(1.0, False, 1, 0), (0.0, False, 0, 0), (0.0, True, 0, 1), (1.0, True, 1, 1), (1.0, False, 1, 0)]


def test_a_world_without_outcomes_comes_to_nothing_and_says_no_chances():
    env = fake_env()
    env.reset(seed=0)
    attack, back = env.action_meanings.index("attack"), env.action_meanings.index("back")
    for action in (attack, back):
        _, reward, terminated, _, info = env.step(action)
        assert (reward, terminated, set(info)) == (0.0, False, {"frames", "chunk"})


@pytest.mark.parametrize("mode", list(gym.vector.AutoresetMode))
def test_vectors_of_games_begin_anew_after_their_end(mode):
    made = [lambda: gym.make(ENV_ID, session=fake_session(GAME_CARD)) for _ in range(2)]
    envs = gym.vector.SyncVectorEnv(made, autoreset_mode=mode)
    _, info = envs.reset(seed=3)
    assert info["reward_chance"].tolist() == [0.0, 0.0] and info["chunk"].tolist() == [0, 0]
    noop, back, attack = 0, 2, 7
    _, reward, terminated, _, info = envs.step(np.array([attack, back]))
    assert reward.tolist() == [1.0, 0.0] and terminated.tolist() == [False, True]
    if mode is gym.vector.AutoresetMode.SAME_STEP:
        assert info["chunk"].tolist() == [1, 0] and info["final_info"]["end_chance"].tolist() == [0.0, 1.0]
    if mode is gym.vector.AutoresetMode.DISABLED:
        _, info = envs.reset(options={"reset_mask": np.array([False, True])})
        assert info["chunk"][1] == 0
    _, reward, terminated, _, info = envs.step(np.array([noop, noop]))
    again = 0 if mode is gym.vector.AutoresetMode.NEXT_STEP else 1
    assert info["chunk"].tolist() == [2, again] and not terminated.any() and not reward.any()
    envs.close()


@pytest.mark.slow
def test_the_shipped_world_passes_and_repeats_itself():
    env = gym.make(ENV_ID, world="doom", scene="maze", dtype="float32").unwrapped
    assert env.observation_space == gym.spaces.Box(0, 255, (128, 160, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    clip = env.reset(seed=1)[1]["frames"]
    twins = [gym.make(ENV_ID, world="doom", dtype="float32") for _ in range(2)]
    for twin in twins:
        twin.reset(seed=4, options={"video": np.concatenate([clip, clip]), "actions": np.zeros((8, 7))})
    for action in (1, 5, 0):
        first, second = (twin.step(action)[4]["frames"] for twin in twins)
        assert first.shape == (4, 128, 160, 3) and np.array_equal(first, second)


def test_a_world_on_a_server_looks_as_it_does_here(address):
    local, remote = fake_env(), gym.make(ENV_ID, connect=address)
    assert remote.action_space == local.action_space and remote.observation_space == local.observation_space
    assert np.array_equal(local.reset(seed=6)[1]["frames"], remote.reset(seed=6)[1]["frames"])
    remote.unwrapped.restore(local.snapshot())
    assert np.array_equal(local.step(10)[4]["frames"], remote.step(10)[4]["frames"])
    remote.close()
