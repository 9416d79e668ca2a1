"""HeliosWorldEnv: one session, here or on a server, as a Gymnasium env."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from helios_world.engine_options import EngineOptions
from helios_world.envs.action_space import ButtonSpace
from helios_world.errors import UserError
from helios_world.world import Start

if TYPE_CHECKING:
    from helios_world.bridge.client import RemoteSession
    from helios_world.card import WorldCard
    from helios_world.engine import Chunk, Session

RESET_OPTIONS = ("scene", "image", "video", "actions", "prompt")


class HeliosWorldEnv(gym.Env[np.ndarray, Any]):
    """A generated world. One step is one chunk: the action is held for all its frames.

    Observation: the last frame of the chunk, uint8 (height, width, 3).
    Info: `frames`, the whole chunk, uint8 (frames_per_chunk, height, width, 3); `chunk`, its index, 0 after a reset.
    Where `card.outcomes` is True also `reward_chance` and `end_chance`: how likely a reward and the end are held to be.
    Reward and `terminated` come from the world's own outcome network where its pack has one: `card.outcomes` tells. In
    other worlds they are always 0.0 and False. `truncated` comes from `gym.make(..., max_episode_steps=N)`.
    The same seed, scene and actions give the same frames on one machine and number format.

    Args:
        world: name of a shipped world pack, or the path of a pack folder. Not used with `connect` or `session`.
        scene: where episodes start; None for the world's first scene.
        action_mode: "discrete" (see `action_meanings`; 0 holds nothing) or "multibinary" (one 0 or 1 per button).
        render_mode: "rgb_array" (the observation) or None.
        connect: address of a running `helios-world serve`; None generates in this process, with weights that all envs
            of the process share and that are loaded at the first reset.
        session: a session to use instead of opening one. It stays open when the env closes.
        timeout: seconds until a request that the server does not answer raises; more than one of its chunks takes.
        key, server_key: files of this client's key pair and of the server's public key, for one that asks for keys.
        prompt: what is to be seen, in words, in a world that takes a prompt; None for the scene's own.
        options: of `helios_world.engine_options.EngineOptions`, such as dtype="float32" or weights="DIR": for networks
            in this process.
    Raises:
        UserError: an unknown world, scene, action_mode or option, a damaged pack, a missing extra.
        ConnectionLost: nothing answers at `connect`.
    """

    # One frame is rendered for each step, so this is steps per second of world time, which an int only comes near to.
    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 4}  # noqa: RUF012 - Gymnasium's

    def __init__(
        self,
        world: str = "doom",
        scene: str | None = None,
        action_mode: str = "discrete",
        render_mode: str | None = None,
        connect: str | None = None,
        session: Session | RemoteSession | None = None,
        timeout: float = 10.0,
        key: str | None = None,
        server_key: str | None = None,
        prompt: str | None = None,
        **options: Any,
    ):
        if render_mode not in (None, "rgb_array"):
            raise UserError(f"unknown render_mode {render_mode!r}: choose from rgb_array or None")
        self.render_mode = render_mode
        self._world, self._connect, self._timeout = world, connect, timeout
        self._key, self._server_key = key, server_key
        self._options, self._prompt = EngineOptions.from_dict(options), prompt
        self._owns_session = session is None
        self._session = self._join() if session is None and connect is not None else session
        self.card: WorldCard = _read_card(world, self._options) if self._session is None else self._session.card
        Start(prompt=prompt).check(self.card)
        self._scene = self.card.check_scene(scene)
        self._buttons = ButtonSpace(self.card.buttons, action_mode)
        self.action_space = self._buttons.space
        self.observation_space = spaces.Box(0, 255, self.card.frame_shape, np.uint8)
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / self.card.chunk_seconds))}
        self._frame: np.ndarray | None = None

    @property
    def action_meanings(self) -> list[str]:
        """What each discrete action holds ("noop", "forward", ...), or the button of each multibinary place."""
        return list(self._buttons.meanings)

    def get_keys_to_action(self) -> dict[tuple[int, ...], Any]:
        """Key codes held together to the action they mean, from the world's bindings, for `gymnasium.utils.play`."""
        return self._buttons.keys_to_action(self.card.bindings)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts a new world.

        Args:
            options: `scene` (a name); `prompt`, in a world that takes one; and real material to start from: `image`
                uint8 (height, width, 3), or `video` uint8 (frames, height, width, 3) with optional `actions` (frames,
                buttons), row t having led to frame t.
        Raises:
            UserError: an unknown option or scene, or an array that does not fit.
        """
        super().reset(seed=seed)
        scene, start = self._parse_options(options or {})
        world_seed = int(self.np_random.integers(2**31))
        return self._observe(self._begin(scene, world_seed, start))

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One chunk under `action`, also after the world's end. UserError for an action outside `action_space`."""
        if self._session is None or self._frame is None:
            raise gym.error.ResetNeeded("call reset before step")
        chunk = self._session.step(self._buttons.decode(action))
        observation, info = self._observe(chunk)
        return observation, float(chunk.outcome.reward), bool(chunk.outcome.terminated), False, info

    def render(self) -> np.ndarray | None:
        """The newest frame, or None without a render_mode."""
        if self.render_mode is None:
            return None
        if self._frame is None:
            raise gym.error.ResetNeeded("call reset before render")
        return self._frame.copy()

    def snapshot(self) -> bytes:
        """This world as bytes, as `Session.snapshot` gives it."""
        if self._session is None or self._frame is None:
            raise gym.error.ResetNeeded("call reset before snapshot")
        return self._session.snapshot()

    def restore(self, snapshot: bytes) -> None:
        """Goes back, or over, to the world in `snapshot`: the next step goes on from there.

        Until then `render` gives the frame seen last. Wrappers, such as the one that counts steps, know nothing of it.
        """
        if self._session is None or self._frame is None:
            raise gym.error.ResetNeeded("call reset before restore")
        self._session.restore(snapshot)

    def close(self) -> None:
        """Ends the session, unless it was given to the constructor. May be called twice."""
        if self._owns_session and self._session is not None:
            self._session.close()
            self._session = None
        self._frame = None

    def _begin(self, scene: str, seed: int, start: Start) -> Chunk:
        """A new world, in the session that there is or in the first one."""
        if self._session is None and self._connect is not None:
            self._session = self._join()
        if self._session is not None:
            return self._session.reset(scene, seed=seed, start=start)
        from helios_world.open import load_engine

        self._session, chunk = load_engine(self._world, self._options).open(scene, seed=seed, start=start)
        return chunk

    def _join(self) -> RemoteSession:
        from helios_world.bridge.client import RemoteSession
        from helios_world.bridge.keys import read_client_keys

        keys = read_client_keys(self._key, self._server_key)
        return RemoteSession(self._connect, timeout=self._timeout, keys=keys)

    def _parse_options(self, options: dict[str, Any]) -> tuple[str, Start]:
        unknown = sorted(set(options) - set(RESET_OPTIONS))
        if unknown:
            raise UserError(f"unknown reset option {', '.join(unknown)}: choose from {', '.join(RESET_OPTIONS)}")
        scene = self._scene if options.get("scene") is None else self.card.check_scene(options["scene"])
        prompt = options.get("prompt", self._prompt)
        start = Start(options.get("image"), options.get("video"), options.get("actions"), prompt)
        return scene, start.check(self.card)

    def _observe(self, chunk: Chunk) -> tuple[np.ndarray, dict[str, Any]]:
        """Arrays of the caller's own, whoever made the chunk."""
        self._frame = chunk.frames[-1].copy()
        info = {"frames": chunk.frames.copy(), "chunk": chunk.index}
        if self.card.outcomes:
            info |= {"reward_chance": chunk.outcome.reward_chance, "end_chance": chunk.outcome.end_chance}
        return self._frame.copy(), info


def _read_card(world: str, options: EngineOptions) -> WorldCard:
    from helios_world.pack import read_card

    return read_card(world, options)
