"""A released checkpoint as a world: equal to the public pipelines, a model like any other, and clear about mistakes."""

import json
import shutil
import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from PIL import Image
from safetensors.torch import load_file, save_file

from helios_world.action import NOOP, Action
from helios_world.clip import chunk_frames
from helios_world.diffusers_layout import load_transformer, save_transformer
from helios_world.engine import WorldEngine
from helios_world.engine_options import EngineOptions
from helios_world.errors import PackError, UserError
from helios_world.open import load_engine
from helios_world.pack import read_pack
from helios_world.released import actions_per_latent, load_released
from helios_world.sampling.pyramid import seeded_noise
from helios_world.testing import assert_world_model_contract
from helios_world.world import Start
from tests.checkpoints import tiny_release
from tests.reference import HISTORY_SIZES, PIPELINE_HABITS, recorded_noise

SIZE = (64, 128)  # pixels: with less, the public pipelines fail at the coarsest level
STEPS = {"base": (6,), "mid": (3, 3, 3), "distilled": (2, 2, 2)}
SEED, CHUNKS, RUN_ERROR = 11, 3, 1e-4
PROMPT = "a red car drives through the city"


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder for each release."""
    folder = tmp_path_factory.mktemp("checkpoints")
    for kind in STEPS:
        tiny_release(kind).save_pretrained(folder / kind)
    return {kind: folder / kind for kind in STEPS}


@pytest.fixture(autouse=True)
def embeddings_at_home(tmp_path_factory, monkeypatch):
    """Prompt embeddings are remembered on disk: here, not in the home of whoever runs the tests."""
    monkeypatch.setenv("HELIOS_WORLD_HOME", str(tmp_path_factory.mktemp("home")))


def load(checkpoint, **options):
    return load_released(read_pack("helios"), EngineOptions(weights=str(checkpoint), size=SIZE, **options))


def pictures(count, seed=3):
    """Smooth random pictures, uint8 (count, height, width, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 4, 8, 3)).astype(np.uint8)
    large = [Image.fromarray(picture).resize(SIZE[::-1], Image.Resampling.BICUBIC) for picture in coarse]
    return np.stack([np.asarray(picture) for picture in large])


def starts(latents):
    frames = chunk_frames(latents)
    return {
        "text": Start(prompt=PROMPT),
        "image": Start(prompt=PROMPT, image=pictures(1)[0]),
        "video": Start(prompt=PROMPT, video=pictures(2 * frames + 3)),
    }


def run_public(kind, model, start, latents):
    """Latents (1, C, CHUNKS * latents, h, w) of the public pipeline, fed with the noise that our model draws."""
    pipeline = tiny_release(kind)
    pipeline.set_progress_bar_config(disable=True)
    first = 0 if start.image is None and start.video is None else 1
    recorded_noise(pipeline, lambda chunk: seeded_noise([(SEED, first + chunk)], torch.device("cpu")))
    steps = {"num_inference_steps": model.sampler.steps[0]}
    if kind != "base":
        steps = {
            "pyramid_num_inference_steps_list": list(model.sampler.steps),
            "is_amplify_first_chunk": model.sampler.amplify_first_chunk,
            "zero_steps": model.sampler.zero_steps - 1,
        }
    found = pipeline(
        prompt=start.prompt,
        negative_prompt=model.negative,
        image=None if start.image is None else Image.fromarray(start.image),
        video=None if start.video is None else [Image.fromarray(frame) for frame in start.video],
        height=SIZE[0],
        width=SIZE[1],
        num_frames=CHUNKS * chunk_frames(latents),
        num_latent_frames_per_chunk=latents,
        history_sizes=list(HISTORY_SIZES),
        guidance_scale=model.sampler.guidance_scale,
        generator=torch.Generator().manual_seed(SEED),
        output_type="latent",
        **steps,
    ).frames
    return found[:, :, -CHUNKS * latents :]


def run_ours(model, start):
    """The same from states of our model; and all frames that it showed, (frames, height, width, 3)."""
    state, shown = model.reset("coast", seed=SEED, start=start)
    made, seen = ([state.history[:, -model.latents :]] if state.chunk and not state.first else []), [shown]
    rows = np.zeros((1, model.card.frames_per_chunk, len(model.card.buttons)), np.float32)
    while len(made) < CHUNKS:
        (state,), frames = model.step([state], rows)
        made.append(state.history[:, -model.latents :])
        seen.append(frames[0])
    return torch.cat(made, dim=1)[None], np.concatenate(seen)


RUNS = [(kind, start, 2) for kind in STEPS for start in ("text", "image", "video")]
RUNS += [("base", "text", 9), ("mid", "image", 9), ("distilled", "video", 9)]


@pytest.mark.parametrize(("kind", "start", "latents"), RUNS)
def test_three_chunks_equal_those_of_the_public_pipelines(checkpoints, kind, start, latents):
    model = load(checkpoints[kind], latents=latents, steps=STEPS[kind])
    if kind != "base":
        model.sampler = replace(model.sampler, **PIPELINE_HABITS)
    given = starts(latents)[start]
    wanted = run_public(kind, model, given, latents)
    found, seen = run_ours(model, given)
    assert found.shape == wanted.shape and wanted.std() > 0.3
    assert (found - wanted).abs().max() / wanted.abs().max() <= RUN_ERROR
    shown = CHUNKS + (start != "text")
    assert seen.shape == (shown * chunk_frames(latents), *SIZE, 3) and seen.std() > 5


@pytest.fixture(scope="module")
def model(checkpoints):
    return load(checkpoints["distilled"], latents=2)


def test_it_fulfils_the_contract(model):
    assert_world_model_contract(model, tolerance=0.5)


def test_bfloat16_is_near_float32(checkpoints, model):
    fast = load(checkpoints["distilled"], latents=2, dtype="bfloat16")
    exact, rounded = (run_ours(m, Start(prompt=PROMPT))[0] for m in (model, fast))
    assert fast.dtype == torch.bfloat16 and (rounded - exact).norm() / exact.norm() < 0.05


def test_offloaded_blocks_give_the_same_bits(checkpoints, model):
    streamed = load(checkpoints["distilled"], latents=2, offload=True)
    assert torch.equal(run_ours(streamed, Start(prompt=PROMPT))[0], run_ours(model, Start(prompt=PROMPT))[0])


def test_drift_correction_is_of_what_the_network_sees(checkpoints, model):
    corrected = load(checkpoints["distilled"], latents=2, drift_correction=1.0)
    still = np.zeros((1, model.card.frames_per_chunk, len(model.card.buttons)), np.float32)
    state = model.reset("coast", seed=1)[0]
    (one,), (other,) = (m.step([state], still)[0] for m in (model, corrected))
    assert torch.equal(one.history[:, :-2], other.history[:, :-2]), "the past is kept as it was made"
    assert not torch.equal(one.history[:, -2:], other.history[:, -2:])


def test_a_batch_may_hold_first_and_later_chunks(model):
    """The first chunk takes twice the steps, and no row may notice what stands beside it."""
    image = Start(prompt=PROMPT, image=pictures(1)[0])
    fresh, later = model.reset("coast", seed=1, start=image)[0], model.reset("city", seed=2)[0]
    assert fresh.first and not later.first
    rows = np.zeros((2, model.card.frames_per_chunk, len(model.card.buttons)), np.float32)
    states, frames = model.step([fresh, later], rows)
    for i, state in enumerate((fresh, later)):
        (alone,), shown = model.step([state], rows[:1])
        assert torch.equal(alone.history, states[i].history) and np.array_equal(shown[0], frames[i])
    assert not any(state.first for state in states)


def test_buttons_and_prompts_change_the_picture(model):
    engine = WorldEngine(model)
    session, _ = engine.open(seed=4)
    twin, told = session.fork(), session.fork()
    told.change_prompt("a city at night")
    frames = session.step().frames
    assert not np.array_equal(twin.step(Action.of("turn_left")).frames, frames)
    assert not np.array_equal(told.step().frames, frames)


def test_a_prompt_fades_in_and_never_reverts(model):
    session, _ = WorldEngine(model).open(seed=4, start=Start(prompt="a red car"))
    session.change_prompt("a city at night", over=2)
    blends = []
    for _ in range(4):
        blends.append(session.state.prompts.blend())
        session.step()
    assert blends == [
        (("a red car", 0.5), ("a city at night", 0.5)),
        *[(("a city at night", 1.0),)] * 3,
    ]


def test_a_snapshot_keeps_the_prompts_to_come(model):
    session, _ = WorldEngine(model).open(seed=4, start=Start(prompt="a red car", image=pictures(1)[0]))
    session.queue_prompt("a city at night", after=2, over=3)
    saved = session.snapshot()
    frames = [session.step().frames for _ in range(4)]
    session.restore(saved)
    assert session.state.first, "the chunk to come is still the first"
    assert all(np.array_equal(session.step().frames, wanted) for wanted in frames)


def test_working_ahead_has_every_text_ready(model, monkeypatch):
    session, _ = WorldEngine(model).open(seed=5, start=Start(prompt="a car at night"))
    session._engine.prepare([session])
    monkeypatch.setattr(model.embeddings.encoder, "encode", lambda texts: pytest.fail(f"had to encode {texts}"))
    session.step(Action.of("forward", "turn_left"))
    session.step(NOOP)


def test_a_trained_adapter_reads_the_buttons(checkpoints, tmp_path):
    """Fresh, it changes nothing but rounding: products of other shapes. Trained, it tells of the buttons."""
    folder = shutil.copytree(checkpoints["distilled"], tmp_path / "copy")
    plain = load(folder, latents=2)
    buttons = len(plain.card.buttons)
    fresh = load_transformer(folder / "transformer", dtype=torch.float32, action_dim=4 * buttons)
    save_transformer(fresh, folder / "transformer")
    adapted = load(folder, latents=2)
    state, _ = plain.reset("coast", seed=1)
    rows = np.zeros((1, plain.card.frames_per_chunk, buttons), np.float32)
    rows[:, :, 0] = 1
    wanted = plain.step([state], rows)[0][0].history
    assert adapted.transformer.config.action_dim == 4 * buttons
    torch.testing.assert_close(adapted.step([state], rows)[0][0].history, wanted, atol=1e-5, rtol=0)
    torch.nn.init.normal_(adapted.transformer.condition_embedder.action_embedder.linear_2.weight)
    assert (adapted.step([state], rows)[0][0].history - wanted).abs().max() > 1e-3
    released = checkpoints["distilled"] / "transformer"
    save_transformer(load_transformer(released, action_dim=12), folder / "transformer")
    with pytest.raises(PackError, match="its actions are 12 numbers a latent frame: 8 buttons make 32"):
        load(folder)


def test_actions_by_latent_frame():
    rows = np.arange(9, dtype=np.float32).reshape(1, 9, 1) + 1
    assert actions_per_latent(rows).tolist() == [[[1, 1, 1, 1], [2, 3, 4, 5], [6, 7, 8, 9]]]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"size": (96, 128)}, "size 96x128 does not fit 3 pyramid levels: height and width must be multiples of 64"),
        ({"steps": (2, 2)}, "steps 2,2: this checkpoint takes 3 numbers, one per pyramid level"),
        ({"latents": 10}, "a chunk of 10 latent frames: must be 1 to 9"),
        ({"dtype": "int4"}, "unknown dtype 'int4': choose from auto, float32, bfloat16"),
        ({"device": "abacus"}, "unknown device 'abacus': choose from auto, cpu, cuda or cuda:NUMBER"),
    ],
)
def test_options_that_do_not_fit_are_refused(checkpoints, options, words):
    with pytest.raises(UserError) as refused:
        load_released(
            read_pack("helios"), EngineOptions(**{"weights": str(checkpoints["distilled"]), "size": SIZE, **options})
        )
    assert str(refused.value) == words


def test_a_checkpoint_must_be_given_and_be_one(checkpoints, tmp_path):
    with pytest.raises(UserError, match="world 'helios' needs --weights: the folder of a Helios checkpoint"):
        load_engine("helios")
    with pytest.raises(UserError, match="world 'doom' has networks of its own: it takes no weights"):
        load_engine("doom", EngineOptions(weights="somewhere"))
    with pytest.raises(PackError, match=r"is not a Helios checkpoint: it has no model_index\.json"):
        load(tmp_path)
    folder = shutil.copytree(checkpoints["mid"], tmp_path / "copy")
    index = folder / "model_index.json"
    values = json.loads(index.read_text())
    index.write_text(json.dumps({**values, "_class_name": "WanPipeline"}))
    with pytest.raises(PackError, match="is not a Helios checkpoint: its pipeline is 'WanPipeline'"):
        load(folder)
    index.write_text(json.dumps({**values, "is_distilled": True}))
    with pytest.raises(PackError, match=r'time_shift_type is "exponential": must be "linear"'):
        load(folder)


def test_a_damaged_checkpoint_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["distilled"], tmp_path / "copy")
    path = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_file(path)
    save_file({name: tensor for name, tensor in weights.items() if name != "proj_out.bias"}, path)
    with pytest.raises(PackError, match=r"lacks tensor proj_out\.bias"):
        load(folder)


def test_a_video_shorter_than_a_chunk_is_refused(model):
    with pytest.raises(UserError, match=r"video has 4 frames: at least 5 \(one chunk\) are needed"):
        WorldEngine(model).open(start=Start(video=pictures(4)))


def test_a_prompt_that_is_too_long_says_what_was_cut(model):
    with pytest.warns(UserWarning, match="the prompt has more than 512 tokens: cut off was 'red car'"):
        WorldEngine(model).open(start=Start(prompt=" ".join(["city"] * 511 + ["red", "car"])))


def test_worlds_of_their_own_take_no_prompt(tiny_pack):
    engine = load_engine(str(tiny_pack), EngineOptions(dtype="float32"))
    with pytest.raises(UserError, match="world 'tiny' takes no prompt"):
        engine.open(start=Start(prompt="a red car"))
    with pytest.raises(UserError, match="world 'tiny' takes no prompt"):
        engine.open()[0].change_prompt("a red car")


def test_gymnasium_accepts_it_as_an_env(checkpoints):
    options = {"world": "helios", "weights": str(checkpoints["distilled"]), "size": [64, 64], "latents": 1}
    env = gym.make("HeliosWorld-v0", prompt=PROMPT, steps=[1, 1, 1], **options).unwrapped
    assert env.observation_space.shape == (64, 64, 3) and "look_up" in env.action_meanings
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    first, info = env.reset(seed=1)
    assert info["frames"].shape == (1, 64, 64, 3) and np.array_equal(env.reset(seed=1)[0], first)
    assert not np.array_equal(env.reset(seed=1, options={"prompt": "a city at night"})[0], first)
    assert np.array_equal(env.reset(seed=1, options={"image": pictures(1)[0][:, :64]})[0], pictures(1)[0][:, :64])
    with pytest.raises(UserError, match="unknown option colour: choose from dtype, device"):
        gym.make("HeliosWorld-v0", colour="red")
