"""The text encoder and what remembers its work, with a small random UMT5 and a small tokenizer made here."""

import json
import shutil
import sys
import warnings

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoTokenizer, UMT5EncoderModel

from helios_world.embeddings import PromptEmbeddings, cache_folder
from helios_world.errors import MissingExtra, PackError, UserError
from helios_world.model.text import TextEncoder, clean_prompt, fill_up, tie_embedding
from helios_world.prompts import PromptTrack
from tests.checkpoints import tiny_text_encoder, tiny_tokenizer

LONG = " ".join(["city"] * 510 + ["red", "car"])  # 513 tokens with the end mark


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint whose text encoder holds its embedding once, as `shared.weight`."""
    folder = tmp_path_factory.mktemp("checkpoint")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    tiny_text_encoder(len(tokenizer)).save_pretrained(folder / "text_encoder")
    weights = load_file(folder / "text_encoder" / "model.safetensors")
    assert "shared.weight" in weights and "encoder.embed_tokens.weight" not in weights
    return folder


@pytest.fixture
def copy(checkpoint, tmp_path):
    """A copy that a test may damage, and a function that rewrites its tensors."""
    folder = shutil.copytree(checkpoint, tmp_path / "copy")
    path = folder / "text_encoder" / "model.safetensors"

    def rewrite(change):
        weights = load_file(path)
        change(weights)
        save_file(weights, path, metadata={"format": "pt"})

    return folder, rewrite


def encoder(folder, **words):
    return TextEncoder(folder, **{"dtype": torch.float32, **words})


def released_encode(folder, prompt):
    """The pipelines' way: filled up to 512 tokens, masked, then zeros past the prompt."""
    tokens = AutoTokenizer.from_pretrained(folder / "tokenizer")(
        [prompt], padding="max_length", max_length=512, truncation=True, return_tensors="pt"
    )
    network = UMT5EncoderModel.from_pretrained(folder / "text_encoder").eval()
    with torch.no_grad():
        rows = network(tokens.input_ids, tokens.attention_mask).last_hidden_state[0]
    rows[int(tokens.attention_mask.sum()) :] = 0
    return rows


@pytest.mark.parametrize("prompt", ["a red car", "", "the camera moves forward through a city at night.", LONG])
def test_rows_equal_those_of_the_released_pipelines(checkpoint, prompt):
    ours, theirs = encoder(checkpoint).encode([prompt])[0], released_encode(checkpoint, prompt)
    assert fill_up(ours.rows).shape == theirs.shape == (512, 32)
    assert torch.allclose(fill_up(ours.rows), theirs, rtol=0, atol=1e-6 * theirs.abs().max())
    assert not fill_up(ours.rows)[len(ours.rows) :].any() and ours.rows.std() > 0.3


def test_prompts_are_cleaned():
    assert clean_prompt("  a &amp;amp; b\n\tc ") == "a & b c"
    assert clean_prompt("caf\u00c3\u00a9") == "caf\u00e9"


def test_the_embedding_is_one_tensor(checkpoint):
    ours = encoder(checkpoint)
    ours.encode(["a"])
    network = ours._network
    assert network.encoder.embed_tokens.weight is network.shared.weight
    stored = load_file(checkpoint / "text_encoder" / "model.safetensors")["shared.weight"]
    assert torch.equal(network.encoder.embed_tokens.weight, stored) and stored.std() > 0.1


@pytest.mark.parametrize("absent", ["encoder.embed_tokens.weight", "shared.weight"])
def test_a_table_left_at_zero_by_the_library_is_replaced(checkpoint, absent):
    """What transformers v5 makes of a checkpoint that says tie_word_embeddings=False."""
    network = UMT5EncoderModel.from_pretrained(checkpoint / "text_encoder")
    table = network.shared.weight.detach().clone()
    for name, part in (("shared.weight", network), ("encoder.embed_tokens.weight", network.encoder)):
        values = torch.zeros_like(table) if name == absent else table
        setattr(part, name.split(".")[-2], torch.nn.Embedding.from_pretrained(values))
    tie_embedding(network, {absent})
    assert network.shared is network.encoder.embed_tokens and torch.equal(network.shared.weight, table)


def test_a_checkpoint_may_hold_the_table_under_either_name(checkpoint, copy):
    folder, rewrite = copy
    wanted = encoder(checkpoint).encode(["a red car"])[0].rows
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "tie_word_embeddings": False}))
    assert torch.equal(encoder(folder).encode(["a red car"])[0].rows, wanted)
    rewrite(lambda weights: weights.update({"encoder.embed_tokens.weight": weights.pop("shared.weight")}))
    assert torch.equal(encoder(folder).encode(["a red car"])[0].rows, wanted)


def test_a_long_prompt_is_cut_and_one_line_says_what(checkpoint, tmp_path):
    encoded = encoder(checkpoint).encode([LONG, "a red car"])
    assert [len(e.rows) for e in encoded] == [512, 4] and [e.cut for e in encoded] == ["car", ""]
    known = PromptEmbeddings(encoder(checkpoint), tmp_path)
    with pytest.warns(UserWarning) as caught:
        known.fetch([LONG])
    assert [str(w.message) for w in caught] == ["the prompt has more than 512 tokens: cut off was 'car'"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        known.fetch([LONG, "a red car"])
    with pytest.warns(UserWarning, match="cut off was 'car'"):
        PromptEmbeddings(encoder(checkpoint), tmp_path).fetch([LONG])
    very_long = " ".join(["city"] * 1000)
    with pytest.warns(UserWarning, match=r"city\.\.\. \(2444 characters\)") as caught:
        known.fetch([very_long])
    assert "\n" not in str(caught[0].message)


@pytest.mark.parametrize(("idle", "place"), [("keep", "cpu"), ("cpu", "cpu"), ("disk", None)])
def test_where_the_weights_wait(checkpoint, idle, place):
    ours = encoder(checkpoint, idle=idle)
    assert ours.loaded_on is None, "nothing is loaded before it is needed"
    first = ours.encode(["a red car"])[0].rows
    assert ours.loaded_on == (torch.device(place) if place else None)
    assert torch.equal(ours.encode(["a red car"])[0].rows, first)


@pytest.mark.parametrize(("idle", "moves"), [("keep", ["cpu"]), ("cpu", ["cpu", "cpu"])])
def test_the_weights_are_moved_for_a_prompt_and_back_only_if_asked(checkpoint, monkeypatch, idle, moves):
    ours, places = encoder(checkpoint, idle=idle), []
    ours.encode(["a"])
    move = ours._network.to
    monkeypatch.setattr(ours._network, "to", lambda place: (places.append(str(place)), move(place))[1])
    ours.encode(["a", "red"])
    assert places == moves


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no NVIDIA GPU")
@pytest.mark.parametrize(("idle", "place"), [("keep", "cuda"), ("cpu", "cpu"), ("disk", None)])
def test_on_a_gpu_the_weights_leave_it(checkpoint, idle, place):
    ours = encoder(checkpoint, idle=idle, device="cuda")
    for _ in range(2):
        rows = ours.encode(["a red car"])[0].rows
        assert rows.device.type == "cuda" and (ours.loaded_on.type if place else ours.loaded_on) == place
    assert torch.allclose(rows.cpu(), encoder(checkpoint).encode(["a red car"])[0].rows, atol=1e-3)


def test_a_prompt_is_encoded_once_and_then_known(checkpoint, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(TextEncoder, "encode", recording(TextEncoder.encode, asked))
    known = PromptEmbeddings(encoder(checkpoint), tmp_path, in_memory=2)
    first = known.fetch(["a red car", "the city", "a red car"])
    assert asked == [["a red car", "the city"]], "in one go, so that the encoder wakes once"
    assert first[0].shape == (512, 32) and torch.equal(first[0], first[2]) and not torch.equal(first[0], first[1])
    known.fetch(["a red car"])
    known.warm(["night"])
    assert asked[1:] == [["night"]] and list(known._known) == ["a red car", "night"], "the oldest in use went"
    later = PromptEmbeddings(encoder(checkpoint), tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(later.fetch(["a red car", "the city"]), first, strict=False))
    assert len(asked) == 2 and later.encoder.loaded_on is None, "from disk, no weights were loaded"


def recording(encode, asked):
    def recorded(self, texts):
        asked.append(list(texts))
        return encode(self, texts)

    return recorded


def test_files_are_of_one_model_only(checkpoint, copy, tmp_path):
    folder, rewrite = copy
    known = PromptEmbeddings(encoder(checkpoint), tmp_path / "cache")
    mine = known.fetch(["night"])[0]
    assert TextEncoder(folder, dtype=torch.float32).identity == known.encoder.identity, "a copy is the same model"
    rewrite(lambda weights: weights["encoder.final_layer_norm.weight"].mul_(2))
    other = PromptEmbeddings(encoder(folder), tmp_path / "cache")
    assert not torch.allclose(other.fetch(["night"])[0], mine)
    assert encoder(checkpoint, dtype=torch.bfloat16).identity != known.encoder.identity
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == 2


@pytest.mark.parametrize("place", [0, 10**6 - 1])
def test_a_large_weight_file_is_known_by_samples_and_size(copy, place):
    folder, _ = copy
    path = folder / "text_encoder" / "model-2.safetensors"
    values = bytearray(10**6)
    identities = set()
    for change in (lambda: None, lambda: values.__setitem__(place, 1), lambda: values.append(0)):
        change()
        path.write_bytes(values)
        identities |= {encoder(folder).identity, encoder(folder).identity}
    assert len(identities) == 3


def test_files_on_disk_are_bounded_and_a_damaged_one_is_made_again(checkpoint, tmp_path):
    known = PromptEmbeddings(encoder(checkpoint), tmp_path, on_disk=2)
    rows = known.fetch(["a", "red", "car"])
    files = list(tmp_path.glob("*"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(b"damaged")
    assert torch.equal(PromptEmbeddings(encoder(checkpoint), tmp_path).fetch(["car"])[0], rows[2])
    nothing = PromptEmbeddings(encoder(checkpoint), tmp_path / "none", on_disk=0)
    assert torch.equal(nothing.fetch(["a"])[0], rows[0]) and not (tmp_path / "none").exists()


def test_a_folder_that_cannot_be_written_is_no_obstacle(checkpoint, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    known = PromptEmbeddings(encoder(checkpoint), blocked)
    with pytest.warns(UserWarning, match="prompt embeddings are not kept on disk") as caught:
        assert known.fetch(["a", "red"])[1].any()
    assert len(caught) == 1


def test_the_cache_is_in_the_home_folder(monkeypatch, tmp_path, checkpoint):
    monkeypatch.setattr("helios_world.home.home_folder.__defaults__", ({"HELIOS_WORLD_HOME": str(tmp_path)}, "linux"))
    assert cache_folder() == tmp_path / "cache" / "prompts"
    PromptEmbeddings(encoder(checkpoint)).fetch(["a"])
    assert len(list(cache_folder().iterdir())) == 1


def test_a_running_change_is_a_blend_of_embeddings(checkpoint, tmp_path):
    known = PromptEmbeddings(encoder(checkpoint), tmp_path)
    track = PromptTrack.start("a red car").change("night", over=4)
    day, night = known.fetch(["a red car", "night"])
    assert torch.allclose(known.blend(track.blend(0)), 0.75 * day + 0.25 * night, atol=1e-6)
    assert torch.equal(known.blend(track.blend(3)), night)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda w: w.pop("shared.weight"), "lacks tensor shared.weight"),
        (lambda w: w.pop("encoder.final_layer_norm.weight"), "lacks tensor encoder.final_layer_norm.weight"),
        (lambda w: w.update(strange=torch.zeros(1)), "holds tensor strange"),
        (
            lambda w: w.update({"shared.weight": torch.zeros(3, 32)}),
            r"tensor shared.weight is \(3, 32\): must be \(\d+, 32\)",
        ),
    ],
)
def test_wrong_weights_are_named_in_one_line(copy, change, text, capfd):
    folder, rewrite = copy
    rewrite(change)
    with pytest.raises(PackError, match=text) as caught:
        encoder(folder).encode(["a"])
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", ""), "what the library has to say is in our one line"


def test_a_folder_that_is_no_checkpoint_is_refused_at_once(copy, tmp_path):
    folder, _ = copy
    with pytest.raises(PackError, match="is not the folder of a text encoder: it has no config"):
        encoder(tmp_path)
    config = folder / "text_encoder" / "config.json"
    config.write_text(json.dumps({"model_type": "bert", "d_model": 8}))
    with pytest.raises(PackError, match="is of model_type 'bert': must be 'umt5'"):
        encoder(folder)
    for damaged in ("{", "[]", json.dumps({"model_type": "umt5"})):
        config.write_text(damaged)
        with pytest.raises(PackError, match="is damaged"):
            encoder(folder)


def test_a_damaged_tokenizer_is_refused(copy):
    folder, _ = copy
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    with pytest.raises(PackError, match=r"tokenizer is damaged") as caught:
        encoder(folder).encode(["a"])
    assert "\n" not in str(caught.value)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(PackError, match="it has no folder tokenizer"):
        encoder(folder)


def test_wrong_options_are_refused(checkpoint, tmp_path):
    with pytest.raises(UserError, match="unknown idle 'sleep': choose from keep, cpu, disk"):
        encoder(checkpoint, idle="sleep")
    with pytest.raises(UserError, match="in_memory is 0"):
        PromptEmbeddings(encoder(checkpoint), tmp_path, in_memory=0)


@pytest.mark.parametrize("module", ["transformers", "ftfy"])
def test_without_a_library_the_extra_is_named(checkpoint, monkeypatch, module):
    ours = encoder(checkpoint)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"{module} is not installed: pip install 'helios-world\[helios\]'"):
        ours.encode(["a"])
