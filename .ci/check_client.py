"""Run by .ci/run in a venv that has the bare wheel: the bridge client must work without torch and pygame."""

import importlib.util
import threading

import helios_world
from helios_world.bridge.client import RemoteSession
from helios_world.bridge.server import WorldServer
from helios_world.testing import FakeWorldModel

unwanted = [name for name in ("torch", "pygame", "vizdoom", "av") if importlib.util.find_spec(name)]
if unwanted:
    raise SystemExit(f"the bare install brings {', '.join(unwanted)}")

server = WorldServer(helios_world.WorldEngine(FakeWorldModel()))
stop = threading.Event()
thread = threading.Thread(target=server.serve, args=(stop.is_set,))
thread.start()
try:
    session = RemoteSession(server.address)
    session.reset(seed=1)
    chunk = session.step(helios_world.Action.of("forward"))
    session.close()
finally:
    stop.set()
    thread.join()
    server.close()
if chunk.index != 1 or chunk.frames.shape != (4, 64, 80, 3):
    raise SystemExit(f"chunk {chunk.index} of shape {chunk.frames.shape}")
print("bridge client: one chunk over the wire, no torch, no pygame")
