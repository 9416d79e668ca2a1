"""Videos and contact sheets: the right frames, in the right number, or no file at all."""

from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from helios_world.action import Action
from helios_world.bridge.score import Score
from helios_world.controllers import RandomController, Recording, Replay, ScriptController, parse_script
from helios_world.demos.headless import chunks_for, play_headless
from helios_world.demos.recording import ContactSheet, VideoWriter, check_target, open_video
from helios_world.engine import WorldEngine
from helios_world.errors import UserError
from helios_world.testing import FAKE_CARD, GAME_CARD, FakeWorldModel
from helios_world.world import Start

HEIGHT, WIDTH, _ = FAKE_CARD.frame_shape


def decode(path):
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        return np.stack(frames), stream.average_rate, stream.codec_context.pix_fmt


def test_a_headless_game_leaves_video_sheet_and_replay(tmp_path):
    session, _ = WorldEngine(FakeWorldModel()).open("maze", seed=2)
    seen = []

    class Watch(RandomController):
        def act(self, frames):
            if frames is not None:
                seen.append(frames)
            return super().act(frames)

    head = Recording("fake", "maze", 2, "float32")
    outcome = play_headless(session, Watch(FAKE_CARD.buttons, 0), head, chunks=11, video=tmp_path / "walk.mp4")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["walk.json", "walk.mp4", "walk.png"]
    frames, rate, pixel_format = decode(outcome.video)
    assert frames.shape == (44, HEIGHT * 8, WIDTH * 8, 3) and outcome.frames == 44
    assert (rate, pixel_format) == (Fraction(35, 2), "yuv420p")
    first = np.concatenate(seen)
    assert np.abs(frames[: len(first), 4::8, 4::8].astype(int) - first).mean() < 6
    assert len(Recording.read(outcome.replay).actions) == 11
    assert (outcome.games, outcome.rewards, outcome.score) == (1, 0, Score())
    with Image.open(outcome.sheet) as sheet:
        assert sheet.size[0] == 10 + 4 * (WIDTH * 4 + 10)
        assert len(np.unique(np.asarray(sheet))) > 20


def test_a_game_that_ends_is_followed_by_the_next_seed_and_a_replay_shows_the_same(tmp_path):
    def play(controller, name):
        session, _ = WorldEngine(FakeWorldModel(GAME_CARD)).open("hall", seed=2, start=start)
        head = Recording("fake", "hall", 2, "float32")
        return play_headless(session, controller, head, chunks=8, video=tmp_path / name, start=start)

    start = Start(image=np.full(GAME_CARD.frame_shape, 9, np.uint8))
    told = []

    class Told(ScriptController):
        def act(self, frames):
            told.append(frames)
            return super().act(frames)

    played = play(
        Told(parse_script("2 attack\n1 attack back\n2 attack\n1 back\n1 attack\n1 back", FAKE_CARD.buttons)), "a.mp4"
    )
    assert (played.games, played.rewards, played.score) == (3, 6, Score(6.0, True)), "the last end is followed by none"
    assert [frames is None for frames in told] == [True, False, False, True, False, False, True, False]
    third, _ = WorldEngine(FakeWorldModel(GAME_CARD)).open("hall", seed=4, start=start)
    assert np.array_equal(told[7], third.step(Action.of("attack")).frames)
    again = play(Replay(Recording.read(played.replay)), "b.mp4")
    assert again.sheet.read_bytes() == played.sheet.read_bytes() and again.games == 3


def test_a_video_has_its_name_only_when_it_is_whole(tmp_path):
    path = tmp_path / "walk.mp4"
    frames = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    with pytest.raises(RuntimeError, match="broken"), open_video(path) as video:
        video.write(frames, FAKE_CARD)
        assert not path.exists()
        raise RuntimeError("broken")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(KeyboardInterrupt), open_video(path) as video:
        video.write(frames, FAKE_CARD)
        raise KeyboardInterrupt
    assert [file.name for file in tmp_path.iterdir()] == ["walk.mp4"], "stopping by hand keeps what was seen"
    assert len(decode(path)[0]) == 2


def test_a_video_without_frames_is_no_file(tmp_path):
    VideoWriter(tmp_path / "walk.mp4").close()
    assert list(tmp_path.iterdir()) == []


def test_a_sheet_spreads_its_cells_over_everything_seen(tmp_path):
    sheet = ContactSheet(FAKE_CARD, columns=2, rows=2)
    for index in range(500):
        sheet.add(np.full((1, HEIGHT, WIDTH, 3), index // 2, np.uint8), frozenset({"forward"}))
    sheet.write(tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        pixels = np.asarray(image)
    cell_width, cell_height = WIDTH * 4 + 10, HEIGHT * 4 + 56
    shades = [int(pixels[60 + cell_height * row, 60 + cell_width * column, 0]) for row in (0, 1) for column in (0, 1)]
    assert shades[0] == 0 and shades[-1] > 240
    assert shades[1] == pytest.approx(83, abs=6) and shades[2] == pytest.approx(166, abs=6)


def test_an_empty_sheet_is_refused(tmp_path):
    with pytest.raises(UserError, match="no frame was played"):
        ContactSheet(FAKE_CARD).write(tmp_path / "sheet.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("seconds", "chunks"), [(0.01, 1), (4 / 17.5, 1), (10, 44), (60, 263)])
def test_chunks_cover_the_seconds_asked_for(seconds, chunks):
    assert chunks_for(FAKE_CARD, seconds) == chunks


def test_targets_that_cannot_be_written_are_refused_untouched(tmp_path):
    (tmp_path / "folder.mp4").mkdir()
    for name, complaint in (
        ("walk.avi", "the name must end in .mp4"),
        ("nowhere/walk.mp4", "there is no folder"),
        ("folder.mp4", "it is a folder"),
    ):
        with pytest.raises(UserError, match=complaint):
            check_target(tmp_path / name, ".mp4")
    old = tmp_path / "walk.mp4"
    old.write_bytes(b"old")
    assert check_target(old, ".mp4") == old
    assert old.read_bytes() == b"old"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["folder.mp4", "walk.mp4"]
