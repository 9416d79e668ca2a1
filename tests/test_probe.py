"""The probe: what it is shown and told, its loss beside the equation, and its way into a pack."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helios_world.config import ProbeConfig
from helios_world.demos.cli import main
from helios_world.errors import UserError
from helios_world.model.probe import Probe, costs
from helios_world.pack import PROBE, read_pack
from helios_world.training.data import load_recordings
from helios_world.training.probe_loss import ProbeSource, find_places, probe_loss, soften

SMALL = ProbeConfig(("maze", "arena"), (100.0, 50.0, 10.0, 20.0, 0.0, 0.0, 1.0, 1.0), widths=(8, 8, 8, 8), hidden=16)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def data_sets(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for scene in ("maze", "arena"):
        words = ["collect", "--scene", scene, "--out", str(root / scene), "--frames", "400", "--workers", "2"]
        assert main([*words, "--seed", "8"]) == 0
    return [root / "maze", root / "arena"]


@pytest.fixture(scope="module")
def recording(data_sets):
    return load_recordings(data_sets, torch.device("cpu"))


def test_a_probe_is_small():
    probe = Probe(ProbeConfig(("maze", "arena"), (0.0,) * 8))
    assert sum(p.numel() for p in probe.parameters()) < 1_000_000
    reading = probe(torch.zeros(3, 5, 128, 160, 3, dtype=torch.uint8))
    assert [tuple(part.shape) for part in reading] == [(3, 4, 7), (3, 2), (3, 2), (3,), (3,), (3, 2), (3, 64)]


def test_costs_are_least_where_a_frame_fits_the_next():
    still = torch.rand(1, 1, 32, 64, 3, generator=seeded()).repeat_interleave(2, dim=3)
    video = torch.cat(
        [still, still.roll(6, dims=3), still.roll(2, dims=3)], dim=1
    )  # 3 to the right, 2 back to the left
    found = costs(video, shifts=4).unflatten(1, (2, 9))
    assert found.shape == (1, 2, 9, 2, 8)
    assert found.mean(dim=2).abs().max() < 1e-5
    inner = found[0, :, :, :, 1:-1]
    assert (inner.argmin(dim=1)[0] == 4 - 3).all() and (inner.argmin(dim=1)[1] == 4 + 2).all()
    grey = torch.nn.functional.avg_pool2d(video.mean(dim=-1), 2)[0]
    part = (grey[1, :8, 16:24] - grey[0, :8, 13:21]).abs().mean()
    others = [(grey[1, :8, 16:24] - grey[0, :8, 12 + k : 20 + k]).abs().mean() for k in range(9)]
    assert float(found[0, 0, 1, 0, 2]) == pytest.approx(8 * float(part - torch.stack(others).mean()), abs=1e-5)


def test_a_probe_says_where_its_places_are():
    with pytest.raises(UserError, match="4 places for scenes"):
        ProbeConfig(("maze", "arena"), (0.0,) * 4)
    assert ProbeConfig.from_dict(json.loads(json.dumps(SMALL.to_dict()))) == SMALL


def test_the_truth_of_a_chunk_is_that_of_its_last_frame(recording):
    places = find_places(recording)
    source = ProbeSource(recording, places, 4)
    ends = torch.tensor([150, 399, 700])
    truth = source.truth(ends)
    assert truth.scene.tolist() == [0, 0, 1] and truth.acting[0].all()
    assert truth.acting[2].tolist() == [False] * 4 + [True] * 3, "feet do nothing in the arena"
    share = recording.actions[recording.scene == 1, 5].float().mean()
    assert truth.rarity[2, 5].item() == pytest.approx(float((1 - share) / share), rel=1e-5)
    assert truth.rarity.max() <= 10 and truth.rarity[1, 5] != truth.rarity[2, 5]
    for row, end in enumerate(ends.tolist()):
        assert torch.equal(truth.buttons[row], recording.actions[end - 3 : end + 1].float())
        x, y, heading = recording.poses[end]
        units = truth.place[row] * places[truth.scene[row], 2:] + places[truth.scene[row], :2]
        assert units.tolist() == pytest.approx([x, y], abs=1e-2)
        assert truth.heading[row].tolist() == pytest.approx([np.cos(np.radians(heading)), np.sin(np.radians(heading))])
        assert [100 * truth.health[row].item(), truth.monster[row].item()] == pytest.approx(
            recording.stats[end].tolist()
        )


def test_chunks_come_with_the_frame_before_them_from_the_same_game(recording):
    source = ProbeSource(recording, find_places(recording), 4)
    assert (source.ends - recording.first[source.ends] >= 4).all()
    frames, truth = source.draw(6, seeded(2))
    pick = source.ends[torch.randint(len(source.ends), (6,), generator=seeded(2))]
    assert torch.equal(frames[3], recording.frames[pick[3] - 4 : pick[3] + 1])
    assert torch.equal(truth.heading, source.truth(pick).heading)


def test_probe_loss_equals_its_equation(recording, monkeypatch):
    monkeypatch.setattr("helios_world.training.probe_loss.soften", lambda x, generator: x)
    probe, source = Probe(SMALL), ProbeSource(recording, find_places(recording), 4)
    frames, truth = source.draw(8, seeded(3))
    assert 0 < int(truth.scene.sum()) < 8
    loss, parts = probe_loss(probe, frames, truth, seeded())
    told, wanted = probe(frames), 0.0
    entropies = []
    for row in range(8):
        names = range(7) if truth.scene[row] == 0 else range(4, 7)
        for t in range(4):
            for button in names:
                p, y = told.buttons[row, t, button].sigmoid(), truth.buttons[row, t, button]
                entropies.append(-(truth.rarity[row, button] * y * p.log() + (1 - y) * (1 - p).log()))
    wanted = 4 * torch.stack(entropies).mean() + (told.place - truth.place).abs().mean()
    wanted = wanted + ((told.heading - truth.heading) ** 2).mean() + 4 * (told.health - truth.health).abs().mean()
    p = told.monster.sigmoid()
    wanted = wanted - (truth.monster * p.log() + (1 - truth.monster) * (1 - p).log()).mean()
    wanted = wanted - F.log_softmax(told.scene, dim=1)[torch.arange(8), truth.scene].mean()
    assert loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert 0 <= float(parts["held"]) <= 1


def test_pictures_are_softened_by_chunk_and_stay_pictures():
    x = torch.rand(200, 5, 8, 8, 3, generator=seeded()) * 2 - 1
    y = soften(x, seeded(1))
    assert y.abs().max() <= 1 and torch.equal(y, soften(x, seeded(1)))
    same = (y == x).all(dim=(2, 3, 4))
    assert torch.equal(same[:, 1], same[:, 4]), "the frames of a chunk are softened alike"
    assert 0.3 < float(same[:, 1].float().mean()) < 0.5
    assert 0.2 < float(same[~same[:, 1], 0].float().mean()) < 0.8, "the frame before may stay as it was"


def test_a_probe_is_trained_resumed_and_exported(data_sets, tmp_path, capsys):
    run, pack, both = tmp_path / "run", tmp_path / "pack", list(map(str, data_sets))
    train = ["train", "--data", *both, "--run", str(run), "--preset", "tiny", "--device", "cpu"]
    small = ["--autoencoder-iterations", "1", "--autoencoder-batch", "2", "--rollout-batch", "0"]
    assert main([*train, *small, "--batch", "2", "--iterations", "1"]) == 0
    world = (run / "config.json").read_text()
    assert main([*train, "--stage", "probe", "--batch", "4", "--iterations", "20"]) == 0
    assert (run / "config.json").read_text() == world, "what trained the world is still known"
    before = (run / PROBE).read_bytes()
    capsys.readouterr()
    assert main([*train, "--stage", "probe", "--batch", "2", "--iterations", "2"]) == 0
    assert f"starting from {run / PROBE}" in capsys.readouterr().out and (run / PROBE).read_bytes() != before
    assert main(["export", "--run", str(run), "--data", *both, "--starts", "1", "--out", str(pack)]) == 0
    config = read_pack(str(pack)).networks.probe
    assert config.scenes == ("maze", "arena") and (pack / PROBE).stat().st_size < 2**20
    poses = load_recordings(data_sets[:1], torch.device("cpu")).poses
    assert config.places[:2] == pytest.approx(poses[:, :2].mean(axis=0).tolist(), rel=1e-4)
