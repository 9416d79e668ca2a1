"""Muon of many matrices at once equals torch's, which takes them one after another."""

from collections import Counter

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from helios_world.training.muon import Muon, orthogonalised

SHAPES = [(24, 24), (24, 24), (24, 24), (64, 24), (64, 24), (24, 64), (24, 64), (5, 3), (1, 8)]
SETTINGS = {"weight_decay": 0.5, "momentum": 0.9}


def drawn(shapes, seed):
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=draw) for shape in shapes]


def in_turn(seed):
    """The gradients of a turn: in each, other matrices have none, the last never has one."""
    gradients = drawn(SHAPES, seed)
    return [None if (index + seed) % 4 == 0 else gradient for index, gradient in enumerate(gradients[:-1])] + [None]


def learnt(make, turns):
    """Matrices and optimiser after some turns, with a rate that changes from turn to turn as the loop's does."""
    matrices = [torch.nn.Parameter(matrix) for matrix in drawn(SHAPES, 100)]
    optimizer = make(matrices)
    for turn in range(turns):
        optimizer.param_groups[0]["lr"] = 0.02 * (turn + 1)
        for matrix, gradient in zip(matrices, in_turn(turn), strict=True):
            matrix.grad = gradient
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return [matrix.detach() for matrix in matrices], [optimizer.state.get(matrix) for matrix in matrices]


def test_five_steps_equal_those_of_torch():
    found, states = learnt(lambda matrices: Muon(matrices, 1.0, **SETTINGS), 5)
    wanted, plain = learnt(lambda m: torch.optim.Muon(m, 1.0, adjust_lr_fn="match_rms_adamw", **SETTINGS), 5)
    start = drawn(SHAPES, 100)
    for own, theirs, before in zip(found[:-1], wanted[:-1], start[:-1], strict=True):
        # bfloat16 has 8 bits: the order in which a product is summed moves what five iterations make of it by up to
        # 1 or 2 %, as much as the plain path is away from the same iterations in double precision.
        assert (own - theirs).norm() < 0.02 * (theirs - before).norm()
    assert torch.equal(found[-1], start[-1]) and not states[-1], "what never has a gradient stays as it is"
    for own, theirs in zip(states[:-1], plain[:-1], strict=True):
        torch.testing.assert_close(own["momentum_buffer"], theirs["momentum_buffer"], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(16, 16), (64, 24), (24, 64), (5, 3)])
def test_orthogonalised_is_the_iteration_in_double_precision(shape):
    matrices = torch.stack(drawn([shape] * 4, 1))
    found = orthogonalised(matrices)
    u, s, vh = torch.linalg.svd(matrices.double(), full_matrices=False)
    s = s / s.norm(dim=1, keepdim=True)
    for _ in range(5):
        s = 3.4445 * s - 4.7750 * s**3 + 2.0315 * s**5
    wanted = u * s[:, None] @ vh
    assert found.dtype == torch.bfloat16 and found.shape == matrices.shape
    assert (found - wanted).norm() < 0.04 * wanted.norm()


class Counted(TorchDispatchMode):
    """Counts the operations that run inside it."""

    def __init__(self):
        super().__init__()
        self.calls = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_more_matrices_of_one_shape_are_no_more_products():
    counts = []
    for number in (1, 12):
        matrices = [torch.nn.Parameter(matrix) for matrix in drawn([(16, 8)] * number, 0)]
        for matrix in matrices:
            matrix.grad = torch.ones_like(matrix)
        with Counted() as counted:
            Muon(matrices, 1e-3, weight_decay=0.01).step()
        counts.append({name: calls for name, calls in counted.calls.items() if "mm" in name})
    assert counts[0] == counts[1] and sum(counts[0].values()) == 15


def test_a_matrix_of_zeros_moves_nothing():
    matrices = [torch.nn.Parameter(torch.ones(4, 4)), torch.nn.Parameter(torch.ones(4, 4))]
    matrices[0].grad, matrices[1].grad = torch.zeros(4, 4), torch.ones(4, 4)
    Muon(matrices, 0.1, weight_decay=0.0).step()
    assert torch.equal(matrices[0].detach(), torch.ones(4, 4)) and (matrices[1] != 1).all()
