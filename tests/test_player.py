"""The player against a simulated clock: even pacing, rare lateness, short latency."""

import heapq

import numpy as np
import pytest

from helios_world.bridge.player import ChunkPlayer

FPS, CHUNK = 17.5, 4
STEP = 1 / FPS


def frames_of(index):
    return np.full((CHUNK, 2, 2, 3), index % 256, np.uint8)


class Played:
    """A front end that looks every `poll` seconds, and a server that takes `take(rng)` seconds for a chunk."""

    def __init__(self, take, *, poll=0.001, seconds=120.0, seed=0, lose=()):
        rng = np.random.default_rng(seed)
        self.player = player = ChunkPlayer(FPS, CHUNK)
        self.shown, self.asks, self.latencies, arriving, presses = [], [], [], [], []
        press_at, pressed, now = 5.0, 0, 0.0
        player.put(0, frames_of(0), 0.0, 0)
        while now < seconds:
            now += poll
            while press_at <= now:
                pressed += 1
                presses.append((pressed, press_at))
                press_at += rng.uniform(0.05, 0.6)
            while arriving and arriving[0][0] <= now:
                _, index, tag = heapq.heappop(arriving)
                player.put(index, frames_of(index), now, tag)
            wanted = player.wants_chunk(now)
            if wanted:
                player.asked(wanted, now)
                self.asks.append((now, wanted))
                if len(self.asks) - 1 not in lose:
                    heapq.heappush(arriving, (now + take(rng), wanted, pressed))
            shown = player.frame(now)
            if shown.is_new:
                self.shown.append((now, shown.chunk, shown.index))
                while presses and presses[0][0] <= shown.seq:
                    self.latencies.append(now - presses.pop(0)[1])

    @property
    def gaps(self):
        return np.diff([now for now, _, _ in self.shown])


def test_every_frame_is_shown_once_in_order():
    played = Played(lambda rng: 0.06, seconds=30)
    steps = [(chunk, index) for _, chunk, index in played.shown]
    assert steps == [(k // CHUNK, k % CHUNK) for k in range(len(steps))]
    assert len(steps) == pytest.approx(30 * FPS, abs=3)


def test_frames_that_arrive_four_at_a_time_are_paced_evenly():
    played = Played(lambda rng: rng.uniform(0.05, 0.07))
    assert np.median(played.gaps) == pytest.approx(STEP, abs=0.001)
    assert np.quantile(np.abs(played.gaps - STEP), 0.99) < 0.004


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_jitter_of_ten_milliseconds_makes_few_chunks_late_and_latency_stays_in_budget(seed):
    played = Played(lambda rng: rng.uniform(0.05, 0.07), seconds=300, seed=seed)
    chunks = played.shown[-1][1]
    assert played.player.late_chunks / chunks < 0.02
    assert np.quantile(played.latencies, 0.95) <= 0.300
    assert np.median(played.latencies) <= 0.200


@pytest.mark.parametrize("poll", [1 / 60, 1 / 144])
def test_a_front_end_that_looks_at_the_rate_of_a_screen_gets_chunks_in_time_too(poll):
    played = Played(lambda rng: rng.uniform(0.045, 0.065), poll=poll, seconds=120)
    assert played.player.late_chunks / played.shown[-1][1] < 0.03
    assert np.quantile(played.latencies, 0.95) <= 0.310


def test_a_world_slower_than_real_time_is_asked_without_a_pause_and_not_rushed():
    played = Played(lambda rng: 0.35, seconds=30)
    assert played.gaps.min() > STEP - 0.003
    assert played.shown[-1][1] >= 30 / 0.36 - 2


def test_a_late_chunk_holds_the_last_frame_then_goes_on_at_the_usual_pace():
    player = ChunkPlayer(FPS, CHUNK)
    player.put(0, frames_of(0), 0.0)
    due = CHUNK * STEP
    assert player.frame(due + 0.5).index == CHUNK - 1
    assert not player.frame(due + 0.6).is_new
    player.put(1, frames_of(1), due + 0.7)
    assert player.late_chunks == 1
    times = [due + 0.7 + k * STEP for k in range(CHUNK)]
    assert [(s.chunk, s.index, s.is_new) for s in map(player.frame, times)] == [(1, k, True) for k in range(CHUNK)]


def test_a_little_lateness_is_made_up_without_a_jump():
    slow = iter([0.05] * 40 + [0.15] + [0.05] * 1000)
    played = Played(lambda rng: next(slow), seconds=60)
    on_time = Played(lambda rng: 0.05, seconds=60)
    assert played.player.late_chunks == 1 and played.gaps.max() > STEP + 0.05
    assert len(played.shown) == len(on_time.shown), "no frame is lost for good"
    assert played.gaps.min() > 0.9 * STEP, "and none is rushed"


def test_newest_wins_and_what_is_not_newer_is_refused():
    player = ChunkPlayer(FPS, CHUNK)
    assert player.frame(0.0) is None
    assert player.put(0, frames_of(0), 0.0)
    assert not player.put(0, frames_of(9), 0.0)
    assert player.put(1, frames_of(1), 0.1)
    assert player.put(2, frames_of(2), 0.1)
    assert not player.put(1, frames_of(1), 0.1)
    assert player.wants_chunk(0.1) == 0


def test_one_chunk_is_outstanding_and_a_lost_asking_is_repeated():
    played = Played(lambda rng: 0.06, seconds=20, lose={10})
    times = {}
    for now, index in played.asks:
        times.setdefault(index, []).append(now)
    repeated = {index: t for index, t in times.items() if len(t) > 1}
    assert len(repeated) == 1
    first, second = next(iter(repeated.values()))
    assert 0.9 < second - first < 1.2
    assert played.shown[-1][1] > 60


def test_a_world_without_a_chunk_is_asked_at_once_and_one_that_starts_waits_for_its_first():
    player = ChunkPlayer(FPS, CHUNK)
    assert player.wants_chunk(1.0) == 0
    player.reset(7)
    assert player.wants_chunk(1.0) == 7
    player.asked(7, 1.0)
    assert player.wants_chunk(1.1) == 0
    assert player.put(7, frames_of(7), 1.2)
    assert player.frame(1.2).chunk == 7


def test_a_stalled_front_end_does_not_spoil_what_was_learnt():
    player, now = ChunkPlayer(FPS, CHUNK), 0.0
    player.put(0, frames_of(0), now)
    for index in range(1, 40):
        while not player.wants_chunk(now):
            now += 0.001
            player.frame(now)
        now += 3.0 if index == 20 else 0.0  # nobody looked for three seconds
        assert player.wants_chunk(now) == index
        player.asked(index, now)
        now += 0.06
        player.put(index, frames_of(index), now)
    assert player.lead == pytest.approx(0.06, abs=0.015)


def test_next_event_is_never_missed():
    """Looking only at the times that next_event names shows the same frames as looking all the time."""
    player, now, shown, arrival, wanted = ChunkPlayer(FPS, CHUNK), 0.0, [], None, 0
    player.put(0, frames_of(0), now)
    while now < 10:
        if arrival is not None and now >= arrival:
            player.put(wanted, frames_of(wanted), now)
            arrival = None
        frame = player.frame(now)
        if frame.is_new:
            shown.append((frame.chunk, frame.index))
        if player.wants_chunk(now):
            wanted = player.wants_chunk(now)
            player.asked(wanted, now)
            arrival = now + 0.06
        following = min(player.next_event(now), arrival or np.inf)
        assert following > now - 1e-9
        now = max(following, now + 1e-6)
    assert shown == [(k // CHUNK, k % CHUNK) for k in range(len(shown))]
    assert len(shown) == pytest.approx(10 * FPS, abs=2)
