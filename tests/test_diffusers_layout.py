"""Transformer folders in the diffusers layout: theirs read here, ours read there, and what does not fit is named."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import HeliosTransformer3DModel
from safetensors.torch import load_file, save_file

from helios_world.config import TransformerConfig
from helios_world.diffusers_layout import INDEX, WEIGHTS, load_transformer, read_config, save_transformer
from helios_world.errors import PackError
from helios_world.model.dit import VideoDiT, weight_dtype
from helios_world.model.memory import split_memory

ROOT = Path(__file__).resolve().parent.parent


def inputs():
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(2, *shape, generator=generator)

    memory = split_memory(draw(16, 19, 6, 10), draw(16, 1, 6, 10), (16, 2, 1))
    return draw(16, 3, 6, 10), torch.tensor([743.25, 1.5]), memory, draw(7, 12)


@pytest.fixture(scope="module")
def theirs(reference):
    return reference.build()


@pytest.fixture
def folder(theirs, tmp_path):
    theirs.save_pretrained(tmp_path / "transformer")
    return tmp_path / "transformer"


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


@pytest.mark.parametrize("size", ["5GB", "100KB"])
def test_what_diffusers_writes_gives_its_output(theirs, reference, tmp_path, size):
    theirs.save_pretrained(tmp_path, max_shard_size=size)
    assert (tmp_path / INDEX).exists() == (size == "100KB")
    x, t, memory, text = inputs()
    with torch.no_grad():
        found = load_transformer(tmp_path, dtype=torch.float32)(x, t, memory, text_BLD=text)
    wanted = reference.velocity(theirs, x, t, memory, text)
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@pytest.mark.parametrize("size", [10**10, 10**5])
@pytest.mark.parametrize("changes", [{}, {"is_amplify_history": True, "num_layers": 3}], ids=str)
def test_diffusers_reads_what_is_written_here(reference, tmp_path, monkeypatch, changes, size):
    # Without the package accelerate, diffusers refuses to read models with float32 islands: here all is float32.
    monkeypatch.setattr(HeliosTransformer3DModel, "_keep_in_fp32_modules", None)
    first = reference.build(**changes)
    first.save_pretrained(tmp_path / "theirs")
    ours = load_transformer(tmp_path / "theirs", dtype=torch.float32)
    save_transformer(ours, tmp_path / "ours", max_shard_size=size)
    assert len(list((tmp_path / "ours").glob("*.safetensors"))) == (1 if size > 10**9 else 4)
    again, problems = HeliosTransformer3DModel.from_pretrained(tmp_path / "ours", output_loading_info=True)
    assert not any(problems.values())
    written, wanted = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("ours", "theirs"))
    assert written == {name: value for name, value in wanted.items() if name != "_diffusers_version"}
    assert all(torch.equal(weight, first.get_parameter(name)) for name, weight in again.named_parameters())
    x, t, memory, text = inputs()
    found, wanted = (reference.velocity(model, x, t, memory, text) for model in (again, first))
    assert (found - wanted).abs().max() <= 1e-5 * wanted.abs().max()


def test_saving_again_leaves_no_older_files(folder):
    model = load_transformer(folder, dtype=torch.float32)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    for size in (10**5, 2 * 10**5, 10**10):
        save_transformer(model, folder, max_shard_size=size)
        after = load_transformer(folder, dtype=torch.float32).state_dict()
        assert all(torch.equal(after[name], before[name]) for name in before)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", WEIGHTS]


def test_our_own_settings_come_back(tmp_path, reference):
    ours = {"history_sizes": (4, 2, 1), "align_levels": True, "anchor": False, "positions": "absolute"}
    config = TransformerConfig(**{**reference.settings, **ours})
    with torch.no_grad():
        model = VideoDiT(config).bfloat16()
    save_transformer(model, tmp_path)
    assert read_config(tmp_path) == config


def test_float32_islands_are_kept(folder, theirs):
    model = load_transformer(folder)
    for name, weight in model.named_parameters():
        assert weight.dtype == weight_dtype(name, torch.bfloat16)
        assert torch.equal(weight, theirs.get_parameter(name).to(weight.dtype))


def test_weights_do_not_lie_in_the_file(folder):
    """Where they did, their places there would decide how sums are rounded, and who writes the file could crash us."""
    for weight in load_transformer(folder, dtype=torch.float32).parameters():
        assert weight.data_ptr() % 64 == 0


def test_old_names(folder, theirs):
    def age(weights):
        weights["scale_shift_table"] = weights.pop("norm_out.scale_shift_table")
        weights["blocks.0.attn1.norm_added_q.weight"] = torch.ones(32)

    change_weights(folder, age)
    found = load_transformer(folder, dtype=torch.float32)
    assert torch.equal(found.norm_out.scale_shift_table, theirs.norm_out.scale_shift_table)


def test_a_fresh_adapter_changes_no_bit(folder, tmp_path):
    x, t, memory, text = inputs()
    steered = load_transformer(folder, dtype=torch.float32, action_dim=4)
    with torch.no_grad():
        plain = load_transformer(folder, dtype=torch.float32)(x, t, memory, text_BLD=text)
        assert torch.equal(steered(x, t, memory, torch.ones(2, 3, 4), text), plain)
        steered.condition_embedder.action_embedder.linear_2.weight.fill_(0.1)
    save_transformer(steered, tmp_path / "steered")
    again = load_transformer(tmp_path / "steered", dtype=torch.float32)
    assert again.config.action_dim == 4
    with torch.no_grad():
        assert not torch.equal(again(x, t, memory, torch.ones(2, 3, 4), text), plain)
    change_weights(tmp_path / "steered", lambda w: w.pop("condition_embedder.action_embedder.linear_2.bias"))
    with pytest.raises(PackError, match=r"lacks tensor condition_embedder\.action_embedder\.linear_2\.bias"):
        load_transformer(tmp_path / "steered")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda w: w.pop("blocks.1.attn2.norm_k.weight"), r"lacks tensor blocks\.1\.attn2\.norm_k\.weight"),
        (lambda w: w.update(extra=torch.ones(1)), "holds tensor extra, which the network does not have"),
        (
            lambda w: w.update({"proj_out.bias": torch.ones(3)}),
            r"tensor proj_out\.bias is \(3,\): must be \(64,\)",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(folder, change, text):
    change_weights(folder, change)
    with pytest.raises(PackError, match=text):
        load_transformer(folder)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"has_multi_term_memory_patch": False}, "has_multi_term_memory_patch is false: must be true"),
        ({"qk_norm": "layer_norm"}, 'qk_norm is "layer_norm": must be "rms_norm_across_heads"'),
        ({"added_kv_proj_dim": 64}, "added_kv_proj_dim is 64: must be null"),
        ({"history_scale_mode": "both"}, "unknown history_scale_mode 'both': choose from per_head, scalar"),
        ({"restrict_lora": True}, "restrict_lora is true: this version does not know it, must be false"),
        ({"rope_dim": [4, 6, 8]}, r"rope_dim \(4, 6, 8\) must add up to attention_head_dim 16"),
        ({"_class_name": "WanTransformer3DModel"}, "is of class 'WanTransformer3DModel': must be 'HeliosTr"),
    ],
)
def test_a_setting_that_is_not_supported_is_named(folder, changes, text):
    change_config(folder, **changes)
    with pytest.raises(PackError, match=text) as caught:
        read_config(folder)
    assert "\n" not in str(caught.value)


def test_settings_of_features_that_are_off_are_ignored(folder):
    change_config(folder, restrict_lora=False, image_dim=None, gan_hooks=[5, 15], out_channels=None)
    assert read_config(folder).out_channels == 16


def test_what_is_no_helios_folder_is_said_in_one_line(folder, tmp_path):
    for wrong in (tmp_path, tmp_path / "nowhere", folder / WEIGHTS):
        with pytest.raises(PackError, match=r"is not a Helios transformer: it has no config\.json"):
            load_transformer(wrong)
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10])
    with pytest.raises(PackError, match="is damaged or not safetensors"):
        load_transformer(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(PackError, match=f"{WEIGHTS} is missing"):
        load_transformer(folder)
    (folder / INDEX).write_text('{"weight_map": {"proj_out.bias": "part-1.safetensors"}}')
    with pytest.raises(PackError, match=r"part-1\.safetensors is missing"):
        load_transformer(folder)
    (folder / INDEX).write_text("{}")
    with pytest.raises(PackError, match="it has no weight_map"):
        load_transformer(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(PackError, match="is damaged"):
        load_transformer(folder)


MEASURE = """
import sys
from pathlib import Path
import torch
from helios_world.diffusers_layout import load_transformer

def megabytes(key):
    line = next(line for line in open("/proc/self/status") if line.startswith(key + ":"))
    return int(line.split()[1]) / 1024

before = megabytes("VmRSS")
model = load_transformer(Path(sys.argv[1]), dtype=getattr(torch, sys.argv[2]))
for weight in model.parameters():
    weight.sum()  # touches every page
print(megabytes("VmHWM") - before, sum(weight.nbytes for weight in model.parameters()) / 2**20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_are_in_memory_once(tmp_path, dtype):
    """Peak resident memory of a process that reads a float32 checkpoint of 200 MB: mapped pages of files count too."""
    sizes = {"num_layers": 12, "num_attention_heads": 4, "attention_head_dim": 128, "ffn_dim": 2048, "text_dim": 64}
    torch.manual_seed(0)
    model = VideoDiT(TransformerConfig(**sizes))
    save_transformer(model, tmp_path, max_shard_size=10**8)
    words = [sys.executable, "-c", MEASURE, str(tmp_path), dtype]
    ran = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, timeout=100, check=True)
    peak, weights = (float(word) for word in ran.stdout.split())
    assert weights > (200 if dtype == "float32" else 100)
    assert weights < peak < weights + 32
