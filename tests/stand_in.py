"""What a window plays with in tests: a clock that tests move, a stream and a server without a process."""

from types import SimpleNamespace

from helios_world.action import Action, ActionLatch
from helios_world.bridge.player import Shown
from helios_world.bridge.score import Score
from helios_world.engine import WorldEngine
from helios_world.testing import FAKE_CARD, FakeWorldModel

FRAME = 1 / FAKE_CARD.fps


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class StandIn:
    """A WorldStream's verbs over a session in this process: a chunk is made the moment it is due."""

    def __init__(self, clock, world=FAKE_CARD):
        self.clock, self._world = clock, world
        self.card = None
        self.status, self.message = "connecting", ""
        self.saved, self.saves, self.invitation = None, 0, None
        self.holds, self.actions, self.starts, self.loads, self.looks = [], [], [], [], []
        self.closed, self.steer, self.seq = False, None, 0
        self.stats = SimpleNamespace(
            shown_fps=17.5, chunk_ms_p50=48.0, chunk_ms_p95=61.0, round_trip_ms_p50=50.0, round_trip_ms_p95=64.0,
            key_to_pixels_ms_p50=143.0, key_to_pixels_ms_p95=211.0, late_chunks=0,
        )  # fmt: skip
        self._latch = ActionLatch()
        self._engine = WorldEngine(FakeWorldModel(world))

    def start(self, scene, seed, start):
        self.card, self.status = self._world, "playing"
        self.reset(scene, seed, start)

    def reset(self, scene, seed, start):
        self.starts.append((scene, seed))
        self._session, self._chunk = self._engine.open(scene, seed=seed)
        self._began, self._last, self._chunk_seq = self.clock(), None, 0
        self._score = Score()

    def hold(self, buttons):
        self.holds.append(buttons)
        self.seq += 1
        self._latch.put(Action(buttons))

    def look(self, x, y):
        self.looks.append((x, y))

    def tick(self):
        if self.status == "lost":
            return None
        index = int((self.clock() - self._began) / FRAME + 1e-6)
        while self.status == "playing" and not self._score.over and index >= FAKE_CARD.frames_per_chunk:
            if self.steer is not None:
                self.hold(self.steer(self._chunk.index + 1))
            self.actions.append(self._latch.take())
            self._chunk, self._chunk_seq = self._session.step(self.actions[-1]), self.seq
            self._score = self._score.after(self._chunk.outcome)
            self._began += FAKE_CARD.chunk_seconds
            index -= FAKE_CARD.frames_per_chunk
        index = min(index, FAKE_CARD.frames_per_chunk - 1)
        new, self._last = self._last != (self._chunk.index, index), (self._chunk.index, index)
        return Shown(self._chunk.frames[index], self._chunk.index, index, new, self._chunk_seq, self._score)

    def pause(self, paused):
        self.status = "paused" if paused else "playing"

    def save(self):
        self.saved, self.saves = self._session.snapshot(), self.saves + 1

    def load(self, data):
        self.loads.append(data)

    def close(self):
        self.closed = True


class Server:
    """A ServerProcess's verbs without a process."""

    def __init__(self):
        self.address, self.alive, self.restarts, self.closed = None, True, 0, False

    def poll(self):
        return self.address

    def restart(self):
        self.alive, self.restarts = True, self.restarts + 1

    def close(self):
        self.closed = True
