"""`helios-world generate`: exactly the frames asked for, and what files it starts from."""

import json
import weakref
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from helios_world.demos import generate, material
from helios_world.demos.cli import main
from helios_world.engine import WorldEngine
from helios_world.errors import UserError
from helios_world.testing import FAKE_CARD, FakeWorldModel
from helios_world.world import Start
from tests.checkpoints import tiny_release

HEIGHT, WIDTH = FAKE_CARD.frame_shape[:2]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "distilled"
    tiny_release("distilled").save_pretrained(folder)
    return folder


@pytest.fixture
def command(checkpoint, tmp_path, monkeypatch, capsys):
    """Runs `generate` on a small checkpoint; returns (exit code, path, stdout, stderr)."""
    monkeypatch.setenv("HELIOS_WORLD_HOME", str(tmp_path / "home"))

    def run(*words, weights=checkpoint):
        path = tmp_path / "out.mp4"
        options = ["--size", "64x64", "--latents", "2", "-o", str(path)]
        options += ["--weights", str(weights)] if weights else []
        code = main(["generate", *words, *options])
        return code, path, *capsys.readouterr()

    return run


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return np.stack([f.to_ndarray(format="rgb24") for f in container.decode(stream)]), stream.average_rate


@pytest.mark.parametrize("frames", [1, 5, 12])
def test_words_become_exactly_the_frames_asked_for(command, frames):
    code, path, out, err = command("a red car", "--frames", str(frames))
    assert (code, out) == (0, f"{path}\n") and f"{frames}/{frames}" in err
    pixels, rate = decode(path)
    assert pixels.shape == (frames, 640, 640, 3) and rate == Fraction(24)
    assert pixels.std() > 5 and not list(path.parent.glob("*.part"))


def test_the_seed_decides_and_figures_are_told(command):
    code, path, out, _ = command("--prompt", "a red car", "--seconds", "0.5", "--seed", "3", "--json")
    figures = json.loads(out)
    assert code == 0 and figures["frames"] == 12 and figures["seed"] == 3
    assert len(figures["chunk_s"]) == len(figures["drift"]) == 3
    assert set(figures["drift"][0]) == {"colour", "contrast", "sharpness"} and figures["peak_device_gib"] is None
    first = path.read_bytes()
    command("a red car", "--frames", "12", "--seed", "3")
    assert np.array_equal(decode(path)[0], decode_bytes(first, path))
    command("a red car", "--frames", "12", "--seed", "4")
    assert not np.array_equal(decode(path)[0], decode_bytes(first, path))


def decode_bytes(data, path):
    other = path.with_name("other.mp4")
    other.write_bytes(data)
    return decode(other)[0]


def test_an_image_and_a_video_go_on(command, tmp_path):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8))
    picture.save(tmp_path / "picture.png")
    code, path, *_ = command("--image", str(tmp_path / "picture.png"), "--frames", "5")
    assert code == 0 and len(decode(path)[0]) == 5
    path.rename(tmp_path / "clip.mp4")
    code, path, *_ = command("--video", str(tmp_path / "clip.mp4"), "--frames", "7")
    assert code == 0 and len(decode(path)[0]) == 7


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["a car", "--prompt", "a car"], "give the prompt once: in words, or as --prompt"),
        (["--frames", "0"], "frames is 0: must be at least 1"),
        (["--frames", "5", "--seconds", "1"], "give --frames or --seconds, not both"),
        (["--seconds", "nan"], "seconds is nan: must be more than 0"),
        (["--steps", "two"], "steps is 'two': must be like 2,2,2"),
        (["--steps", "2,2"], "steps 2,2: this checkpoint takes 3 numbers, one per pyramid level"),
        (["--scene", "moon"], "unknown scene 'moon': choose from coast, forest, city"),
        (["--world", "doom", "--frames", "5"], "world 'doom' has networks of its own: it takes no weights"),
        (["--image", "nowhere.png"], "cannot read image nowhere.png: No such file or directory"),
        (["--video", "nowhere.mp4"], "cannot read video nowhere.mp4: No such file or directory"),
        (["--seed", "-1"], "seed is -1: must be 0 or more"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(command, words, complaint):
    code, path, out, err = command(*words)
    assert (code, out, path.exists()) == (2, "", False)
    assert err.splitlines()[-1] == f"helios-world: {complaint}"


def test_a_checkpoint_is_asked_for(command):
    code, path, _, err = command("a car", weights=None)
    assert code == 2 and not path.exists()
    assert err.splitlines()[-1] == "helios-world: world 'helios' needs --weights: the folder of a Helios checkpoint"


def test_one_chunk_at_a_time_is_held(tmp_path):
    """However long the video, no frames are kept but those of the chunk that is written and of the one before."""
    held = most = 0

    def gone():
        nonlocal held
        held -= 1

    class Counting(FakeWorldModel):
        def step(self, states, actions, contexts=None):
            nonlocal held, most
            following, frames = super().step(states, actions, contexts)
            weakref.finalize(frames, gone)
            held += 1
            most = max(most, held)
            return following, frames

    figures = generate.write_video(WorldEngine(Counting()), None, Start(), 41, 0, tmp_path / "long.mp4")
    assert figures["frames"] == 41 and len(decode(tmp_path / "long.mp4")[0]) == 41 and most == 2


def write_clip(path, fps, shades, size=(96, 64)):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height = size
        for shade in shades:
            frame = av.VideoFrame.from_ndarray(np.full((size[1], size[0], 3), shade, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def test_a_video_is_brought_to_the_rate_of_the_world(tmp_path):
    write_clip(tmp_path / "clip.mp4", 35, range(0, 240, 10))
    frames = material.read_video(tmp_path / "clip.mp4", FAKE_CARD)  # 17.5 fps: every other frame
    assert frames.shape == (12, HEIGHT, WIDTH, 3)
    assert np.abs(frames.mean(axis=(1, 2, 3)) - np.arange(0, 240, 20)).max() < 4


def test_of_a_long_video_the_first_frame_and_the_newest_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(material, "LONGEST_HISTORY", 2)
    card = replace(FAKE_CARD, fps=25)
    write_clip(tmp_path / "clip.mp4", 25, range(40, 80, 2))
    frames = material.read_video(tmp_path / "clip.mp4", card)
    assert len(frames) == 1 + 2 * card.frames_per_chunk
    assert np.abs(frames[[0, 1, -1]].mean(axis=(1, 2, 3)) - [40, 64, 78]).max() < 4


def test_a_picture_keeps_its_middle(tmp_path):
    pixels = np.zeros((100, 400, 3), np.uint8)
    pixels[:, 150:250] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    found = material.read_image(tmp_path / "wide.png", replace(FAKE_CARD, height=50, width=50))
    assert found.shape == (50, 50, 3) and found.mean() > 240


@pytest.mark.parametrize("read", [material.read_image, material.read_video])
def test_files_that_are_something_else_are_refused(read, tmp_path):
    (tmp_path / "notes.txt").write_text("nothing to see")
    with pytest.raises(UserError, match=r"cannot read (image|video) .*notes\.txt: "):
        read(tmp_path / "notes.txt", FAKE_CARD)
