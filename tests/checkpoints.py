"""Whole Helios checkpoints with small random networks, written by diffusers and transformers themselves."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan, HeliosPipeline, HeliosPyramidPipeline
from transformers import T5Tokenizer, UMT5Config, UMT5EncoderModel

from helios_world.config import HELIOS_14B
from helios_world.diffusers_layout import save_transformer
from helios_world.model.dit import VideoDiT, cast_weights
from tests.reference import scheduler, tiny_transformer

WORDS = ["a", "red", "car", "drives", "through", "the", "city", "at", "night", "camera", "moves", "forward"]
TEXT_WIDTH, CHANNELS = 32, 16


def tiny_tokenizer() -> T5Tokenizer:
    """Knows WORDS, and letters for all others."""
    vocabulary = [(name, 0.0) for name in ("<pad>", "</s>", "<unk>")]
    vocabulary += [(f"▁{word}", -2.0 - 0.01 * i) for i, word in enumerate(WORDS)]
    vocabulary += [(letter, -6.0) for letter in "▁abcdefghijklmnopqrstuvwxyz.,<>&"]
    return T5Tokenizer(vocab=vocabulary, extra_ids=0, model_max_length=512)


def tiny_text_encoder(vocabulary: int, seed: int = 0, **changes) -> UMT5EncoderModel:
    """With random weights."""
    sizes = {"d_model": TEXT_WIDTH, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, **changes}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return UMT5EncoderModel(UMT5Config(vocab_size=vocabulary, **sizes)).eval()


def tiny_vae(seed: int = 0, **sizes) -> AutoencoderKLWan:
    """With random weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoencoderKLWan(base_dim=8, z_dim=CHANNELS, num_res_blocks=1, **sizes).eval().requires_grad_(False)


def tiny_release(kind: str) -> HeliosPipeline | HeliosPyramidPipeline:
    """A whole release, whose `save_pretrained` writes a checkpoint: kind is base, mid or distilled."""
    tokenizer = tiny_tokenizer()
    transformer = tiny_transformer(in_channels=CHANNELS, out_channels=CHANNELS, text_dim=TEXT_WIDTH)
    parts = (tokenizer, tiny_text_encoder(len(tokenizer)), tiny_vae(), scheduler(kind), transformer)
    if kind == "base":
        return HeliosPipeline(*parts)
    return HeliosPyramidPipeline(*parts, is_cfg_zero_star=kind == "mid", is_distilled=kind == "distilled")


def save_full_size(folder: Path, device: str) -> None:
    """A Distilled checkpoint of the released sizes with random weights, but for a text encoder of two thin layers."""
    with torch.device("meta"):
        model = cast_weights(VideoDiT(HELIOS_14B), torch.bfloat16)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.02, generator=generator)
    save_transformer(model, folder / "transformer")
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder / "tokenizer")
    tiny_text_encoder(len(tokenizer), d_model=HELIOS_14B.text_dim).save_pretrained(folder / "text_encoder")
    AutoencoderKLWan().save_pretrained(folder / "vae")
    scheduler("distilled").save_pretrained(folder / "scheduler")
    index = {"_class_name": "HeliosPyramidPipeline", "is_distilled": True, "is_cfg_zero_star": False}
    (folder / "model_index.json").write_text(json.dumps(index))
