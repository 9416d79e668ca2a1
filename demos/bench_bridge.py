"""`helios-world bench bridge`: what the bridge itself costs, without a network that generates anything.

Frames of noise-covered bars leave a server process at a steady rate; this process asks for them as players do. The age
of a frame is the time from when it was made to when it is here, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import zmq

from helios_world.bridge import codecs, protocol
from helios_world.bridge.client import open_socket
from helios_world.bridge.keys import ClientKeys, KeyPair, Lock
from helios_world.card import WorldCard
from helios_world.demos.bench_child import FPS, SIZES, percentiles, process
from helios_world.demos.bench_rivals import check_websocket, request_reply, websocket

BUTTONS = ("turn_left", "turn_right")
SLOW = 0.2  # seconds that a slow client takes for each frame


def measure(seconds: float) -> dict[str, Any]:
    """All figures; each case lasts `seconds`. MissingExtra where a rival cannot be measured."""
    check_websocket()
    figures: dict[str, Any] = {"cases": {}}
    for size in SIZES:
        for codec in codecs.available():
            figures["cases"][f"{size}_{codec}"] = case(seconds, size, codec)
    figures["cases"]["640x384_raw_with_keys"] = case(seconds, "640x384", "raw", locked=True)
    figures["cases"]["640x384_jpeg_8_clients"] = case(seconds, "640x384", "jpeg", clients=8)
    figures["cases"]["640x384_jpeg_64_clients"] = case(seconds, "640x384", "jpeg", clients=64)
    figures["cases"]["640x384_raw_beside_a_slow_client"] = case(seconds, "640x384", "raw", slow=1)
    figures["hops_640x384_jpeg"] = hops(seconds, "640x384", "jpeg")
    ours = figures["cases"]["640x384_jpeg"]["age_ms_p99"]
    for rival in (request_reply, websocket):
        figures[f"{rival.__name__}_640x384_jpeg"] = theirs = rival(seconds, "640x384")
        figures[f"age_p99_to_{rival.__name__}"] = round(ours / theirs["age_ms_p99"], 3)
    return figures


def case(
    seconds: float, size: str, codec: str, *, clients: int = 1, slow: int = 0, locked: bool = False
) -> dict[str, float]:
    """Frame ages of `clients` that keep up, beside `slow` ones that do not."""
    lock, keys = _keys() if locked else (None, None)
    print(f"{size} {codec}, {clients} clients, {slow} slow{', keys' if locked else ''}", file=sys.stderr)
    with process(_serve, _card(size), codec, lock) as address:
        probes = [Probe(address, keys, codec) for _ in range(clients)]
        laggards = [Probe(address, keys, codec, pause=SLOW) for _ in range(slow)]
        _play([*probes, *laggards], seconds)
        for probe in (*probes, *laggards):
            probe.socket.close(0)
    ages = np.array([age for probe in probes for age in probe.ages]) * 1000
    stale = float((ages > 2000 / FPS).mean())
    return {
        **percentiles("age_ms", ages),
        "fps_per_client": round(len(ages) / seconds / clients, 2),
        "stale_share": round(stale, 4),
        "mib_per_s": round(sum(probe.size for probe in probes) / seconds / 2**20, 3),
        "make_ms_p50": round(float(np.median([s for probe in probes for s in probe.seconds])) * 1000, 3),
    }


def hops(seconds: float, size: str, codec: str) -> dict[str, float]:
    """Where the time goes between an input that is sent and pixels that can be shown: medians, hop by hop."""
    print(f"{size} {codec}, hop by hop", file=sys.stderr)
    with process(_serve, _card(size), codec, None) as address:
        probe = Probe(address, None, codec, decodes=True)
        _play([probe], seconds)
        probe.socket.close(0)
    names = ("input_to_server", "made", "encoded_and_sent", "decoded")
    medians = np.median(np.array(probe.hops), axis=0) * 1000
    return {f"{name}_ms_p50": round(float(value), 3) for name, value in zip(names, medians, strict=True)}


@dataclass
class Probe:
    """A client that asks for a chunk of one frame every 1/FPS seconds, and looks how old it is when it comes."""

    address: str
    keys: ClientKeys | None
    codec: str
    pause: float = 0.0
    decodes: bool = False
    hops: list[tuple[float, ...]] = field(default_factory=list)
    ages: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    size: int = 0

    def __post_init__(self) -> None:
        self.socket = open_socket(self.address, self.keys)
        self._seq, self._chunk, self.due, self._waits = 0, 1, float("inf"), False
        self._send(protocol.Hello(protocol.VERSION, "bench", "", (self.codec,)))
        assert isinstance(self._receive(), protocol.Welcome)
        self._send(protocol.Reset(1, None, 1))
        self._receive()

    def begin(self, now: float) -> None:
        """From now on."""
        self.due = now

    def ask(self, now: float) -> None:
        """For the next chunk, if it is time; what did not come is asked for again."""
        if now >= self.due:
            self._seq += 1
            self._send(protocol.Act(self._seq, now, frozenset(), self._chunk))
            self.due = max(self.due + 1 / FPS, now)

    def take(self) -> None:
        """What has come."""
        while self.socket.poll(0):
            message = self._receive()
            if isinstance(message, protocol.Frames) and message.index >= self._chunk:
                self.ages.append(time.monotonic() - message.made_at)
                self.seconds.append(message.seconds)
                self.size += len(message.payload)
                self._chunk = message.index + 1
                if self.decodes:
                    self._measure_hops(message, time.monotonic())
                time.sleep(self.pause)

    def _measure_hops(self, message: protocol.Frames, came: float) -> None:
        taken = message.made_at - message.seconds
        codecs.unpack_frames(message)
        decoded = time.monotonic() - came
        self.hops.append((taken - message.sent_at, message.seconds, came - message.made_at, decoded))

    def _send(self, message: protocol.Message) -> None:
        self.socket.send_multipart(protocol.encode(message))

    def _receive(self) -> protocol.Message:
        return protocol.decode(self.socket.recv_multipart())


def _play(probes: Sequence[Probe], seconds: float) -> None:
    """Slow ones have a thread of their own, so that they hold up nobody."""

    def loop(own: Sequence[Probe]) -> None:
        poller = zmq.Poller()
        for index, probe in enumerate(own):
            poller.register(probe.socket, zmq.POLLIN)
            probe.begin(time.monotonic() + index / len(own) / FPS)
        ends = time.monotonic() + seconds
        while (now := time.monotonic()) < ends:
            for probe in own:
                probe.ask(now)
            wait = max(0.0, min(probe.due for probe in own) - time.monotonic())
            ready = dict(poller.poll(int(wait * 1000)))
            for probe in own:
                if probe.socket in ready:
                    probe.take()

    slow = [threading.Thread(target=loop, args=([probe],)) for probe in probes if probe.pause]
    for thread in slow:
        thread.start()
    loop([probe for probe in probes if not probe.pause])
    for thread in slow:
        thread.join()


def _card(size: str) -> WorldCard:
    height, width = SIZES[size]
    return WorldCard("bench", height, width, FPS, 1, BUTTONS, ("bars",))


def _serve(card: WorldCard, codec: str, lock: Lock | None, ready: Any) -> None:
    from helios_world.bridge.server import WorldServer
    from helios_world.engine import WorldEngine
    from helios_world.testing import FakeWorldModel

    engine = WorldEngine(StillWorld(FakeWorldModel(card)), max_batch=64)
    server = WorldServer(engine, "tcp://127.0.0.1:0", codec=codec, lock=lock, max_sessions=100)
    ready.send(server.address)
    server.serve(lambda: False)


class StillWorld:
    """A model that shows the same picture for ever: making it takes no time, so that the bridge alone is measured."""

    def __init__(self, model: Any):
        self.card, self._model = model.card, model
        state, self._frames = model.reset(model.card.scenes[0])
        _, frames = model.step([state], np.zeros((1, 1, len(model.card.buttons)), np.float32))
        self._frames = frames[0]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def step(self, states: Sequence[Any], actions: np.ndarray, contexts: Any = None) -> tuple[list[Any], np.ndarray]:
        from helios_world.world import step_on

        return [step_on(s, s.history, s.anchor) for s in states], np.broadcast_to(
            self._frames, (len(states), *self._frames.shape)
        )


def _keys() -> tuple[Lock, ClientKeys]:
    server, client = (KeyPair(*(key.decode() for key in zmq.curve_keypair())) for _ in range(2))
    return Lock(server, frozenset({client.public})), ClientKeys(client, server.public)
