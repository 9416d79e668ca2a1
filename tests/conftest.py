"""What every test shares: where nothing may be skipped, some tests that did not run are failures."""

import contextlib
import json
import os
import shutil
import signal
import threading
from types import SimpleNamespace

import hypothesis
import pytest

hypothesis.settings.register_profile("fixed", derandomize=True)  # the same examples in every run
hypothesis.settings.load_profile("fixed")

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it, and so would its children

MAY_NOT_BE_SKIPPED = ("display", "browser", "clients", "fuzz")
NOTHING_MAY_BE_SKIPPED = os.environ.get("HELIOS_WORLD_CI") == "1"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    return refuse_skip(report) if any(item.get_closest_marker(name) for name in MAY_NOT_BE_SKIPPED) else report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    return refuse_skip((yield))


def refuse_skip(report):
    """The report as a failure, if it is a skip and this is the build machine."""
    if NOTHING_MAY_BE_SKIPPED and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped although HELIOS_WORLD_CI=1: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def served():
    """`with served(server) as address:` runs a WorldServer in a thread, and ends both."""

    @contextlib.contextmanager
    def serving(server):
        stop = threading.Event()
        thread = threading.Thread(target=server.serve, args=(stop.is_set,))
        thread.start()
        try:
            yield server.address
        finally:
            stop.set()
            thread.join(5)
            server.close()

    return serving


@pytest.fixture
def address(served):
    """Of a server of the fake world."""
    from helios_world.bridge.server import WorldServer
    from helios_world.engine import WorldEngine
    from helios_world.testing import FakeWorldModel

    with served(WorldServer(WorldEngine(FakeWorldModel()))) as address:
        yield address


@pytest.fixture
def process():
    """A server of the fake world in a process of its own."""
    from helios_world.bridge.process import ServerProcess

    process = ServerProcess(["--fake"])
    yield process
    process.close()


@pytest.fixture
def clock():
    """A clock that the test moves."""
    from tests.stand_in import Clock

    return Clock()


@pytest.fixture
def window_on(monkeypatch, tmp_path):
    """`window_on(link, ...)` opens a window on a screen that nobody sees, with a home of its own; all are closed."""
    from helios_world.demos.window import Window

    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("HELIOS_WORLD_HOME", str(tmp_path))
    opened = []

    def open_one(link, **options):
        opened.append(Window(link, **options))
        return opened[-1]

    yield open_one
    for window in opened:
        window.close()


@pytest.fixture(scope="session")
def data_sets(tmp_path_factory):
    """A little of both games, collected by the command: folders of the maze and of the arena."""
    from helios_world.demos.cli import main

    root = tmp_path_factory.mktemp("data")
    for scene, frames in (("maze", "300"), ("arena", "1600")):
        words = ["collect", "--scene", scene, "--out", str(root / scene), "--frames", frames, "--workers", "2"]
        assert main([*words, "--seed", "3"]) == 0
    return [root / "maze", root / "arena"]


@pytest.fixture(scope="session")
def tiny_pack(tmp_path_factory):
    """Folder of a world pack with small networks and random weights: the doom world's sizes from outside."""
    import torch

    from helios_world.card import WorldCard
    from helios_world.checkpoint import save_weights
    from helios_world.config import TINY, TINY_AUTOENCODER, SamplerConfig
    from helios_world.model.dit import VideoDiT, initialise
    from helios_world.model.vae import VideoVAE
    from helios_world.pack import STARTS, TRANSFORMER, VAE, Networks, Pack
    from helios_world.testing import FAKE_CARD

    folder = tmp_path_factory.mktemp("packs") / "tiny"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    transformer, vae = VideoDiT(TINY), VideoVAE(TINY_AUTOENCODER)
    initialise(transformer, generator)
    with torch.no_grad():
        for parameter in (*transformer.parameters(), *vae.decoder.parameters()):
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    save_weights(folder / TRANSFORMER, transformer.state_dict())
    save_weights(folder / VAE, vae.state_dict())
    save_weights(folder / STARTS, {"maze": torch.randn(3, 16, sum(TINY.history_sizes), 16, 20, generator=generator)})
    card = WorldCard.from_dict({**FAKE_CARD.to_dict(), "name": "tiny", "height": 128, "width": 160, "scenes": ["maze"]})
    pack = Pack(folder, card, Networks(TINY, TINY_AUTOENCODER, SamplerConfig()), None, "CC0-1.0", {})
    (folder / "world.json").write_text(json.dumps(pack.to_dict()))
    return folder


@pytest.fixture(scope="session")
def reference():
    """diffusers' own transformer, small: `build` makes one with random weights, `velocity` runs it on our inputs."""
    import torch
    from diffusers import HeliosTransformer3DModel

    from helios_world.model.memory import frame_indices

    settings = {"num_layers": 2, "num_attention_heads": 2, "attention_head_dim": 16, "rope_dim": (4, 6, 6)}
    settings |= {"ffn_dim": 48, "text_dim": 12, "freq_dim": 32}

    def build(**changes):
        model = HeliosTransformer3DModel(**{**settings, **changes}).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            mean = (
                1.5 if ".norm" in name and name.endswith("weight") else 0.0
            )  # queries and keys that tell tokens apart
            parameter.copy_(mean + 0.2 * torch.randn(parameter.shape, generator=generator))
        return model

    @torch.no_grad()
    def velocity(model, x, t, memory, text, sizes=(16, 2, 1)):
        indices, named = [torch.tensor(part)[None] for part in frame_indices(sizes, x.shape[2])], {}
        for name, part, frames in zip(("long", "mid", "short"), memory[:3], indices[:3], strict=True):
            named |= {f"latents_history_{name}": part, f"indices_latents_history_{name}": frames}
        return model(x, t, text, indices_hidden_states=indices[3], **named).sample

    return SimpleNamespace(settings=settings, build=build, velocity=velocity)


@pytest.fixture
def tiny_pack_copy(tiny_pack, tmp_path):
    """A copy of the tiny pack that a test may damage."""
    return shutil.copytree(tiny_pack, tmp_path / "copy")
