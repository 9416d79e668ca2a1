"""Too little memory is said before anything is loaded, with what is needed and what is free."""

from types import SimpleNamespace

import pytest
import torch

from helios_world import footprint as module
from helios_world.config import HELIOS_14B, TINY
from helios_world.errors import UserError
from helios_world.footprint import GIB, WORK, check_room, footprint
from helios_world.model.dit import VideoDiT, cast_weights

CARD = torch.device("cuda")


def test_it_is_the_size_of_the_weights():
    model = cast_weights(VideoDiT(TINY), torch.bfloat16)
    whole = sum(weight.nbytes for weight in model.parameters())
    assert footprint(TINY, torch.bfloat16, offload=False) == (whole, 0)
    blocks = sum(weight.nbytes for weight in model.blocks.parameters())
    assert footprint(TINY, torch.bfloat16, offload=True) == (whole - blocks + 2 * blocks // len(model.blocks), blocks)


def test_the_release_fits_a_card_of_24_gb_when_its_blocks_wait_outside():
    whole, streamed = (footprint(HELIOS_14B, torch.bfloat16, offload=offload) for offload in (False, True))
    assert 26 < whole.device / GIB < 28 and 25 < streamed.host / GIB < whole.device / GIB
    assert (streamed.device + WORK) / GIB < 22


@pytest.fixture
def machine(monkeypatch):
    """Sets what is free, in GiB, on the card and on the host."""

    def free(card, host):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(card * GIB), int(80 * GIB)))
        monkeypatch.setattr(module, "_free_on_host", lambda: None if host is None else int(host * GIB))

    return free


def test_a_small_card_is_told_of_offloading(machine):
    machine(card=22, host=64)
    with pytest.raises(UserError) as refused:
        check_room(HELIOS_14B, torch.bfloat16, CARD, offload=False)
    words = str(refused.value)
    assert words.startswith("the transformer needs 31.7 GiB of memory on cuda: 22.0 GiB are free: with --offload")
    assert "\n" not in words
    check_room(HELIOS_14B, torch.bfloat16, CARD, offload=True)
    machine(card=40, host=8)
    check_room(HELIOS_14B, torch.bfloat16, CARD, offload=False)


@pytest.mark.parametrize(
    ("device", "offload", "words"),
    [
        (CARD, True, "--offload needs 26.2 GiB of host memory: 8.0 GiB are free"),
        (torch.device("cpu"), False, "the transformer needs 53.3 GiB of host memory: 8.0 GiB are free"),
    ],
)
def test_a_small_host_is_told_what_is_needed(machine, device, offload, words):
    machine(card=80, host=8)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    with pytest.raises(UserError) as refused:
        check_room(HELIOS_14B, dtype, device, offload=offload)
    assert str(refused.value) == words


def test_where_the_system_does_not_say_it_is_tried(machine):
    machine(card=80, host=None)
    check_room(HELIOS_14B, torch.float32, torch.device("cpu"), offload=False)


def test_free_memory_is_read_as_linux_writes_it(tmp_path):
    path = tmp_path / "meminfo"
    assert module._free_on_host(path) is None
    path.write_text("MemTotal:       100 kB\nMemAvailable:    64 kB\n")
    assert module._free_on_host(path) == 64 * 1024


def test_running_out_of_memory_is_one_line(monkeypatch):
    from helios_world.released import ReleasedGenerator

    def out_of_memory(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(ReleasedGenerator, "sample", out_of_memory)
    model = ReleasedGenerator.__new__(ReleasedGenerator)
    model.drift_correction, model.vae = 0.0, SimpleNamespace(device=torch.device("cpu"))
    model.card = SimpleNamespace(frames_per_chunk=33, frame_shape=(384, 640, 3))
    state = SimpleNamespace(first=True, history=torch.zeros(1), anchor=torch.zeros(1))
    with pytest.raises(UserError, match=r"too little memory for 1 world of 384x640 at a time: try --offload"):
        model.step([state], torch.zeros(1, 33, 8).numpy())
