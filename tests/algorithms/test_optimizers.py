"""RMSprop and Adam over stacks of runs against torch.optim, one optimizer for each run and part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from smix_pz.algorithms.networks import Parameter, ParameterStack
from smix_pz.algorithms.optimizers import Optimizer, make_optimizer
from smix_pz.config import Hyperparameters

SPEC = {"actor.w": Parameter((5, 4), 1), "actor.b": Parameter((20,), 1), "critic.w": Parameter((10,), 1)}
PARTS = {"": slice(None), "actor.": slice(0, 40), "critic.": slice(40, 50)}
SETTINGS: list[dict[str, Any]] = [
    {"optimizer": "rmsprop", "rms_alpha": 0.9},
    {"optimizer": "rmsprop", "rms_eps": 1e-3},
    {"optimizer": "adam"},
    {"optimizer": "adam", "adam_beta1": 0.5, "adam_beta2": 0.9, "adam_eps": 1e-4},
    {"optimizer": "adam", "adam_beta1": 0.0},
]
EVERY = pytest.mark.parametrize("settings", SETTINGS, ids=str)
CLIP = 10.0


def start(settings: dict[str, Any], n_runs: int = 3) -> tuple[ParameterStack, Optimizer, Hyperparameters]:
    hyper = Hyperparameters(**settings, learning_rate=1e-2, grad_clip=CLIP)
    stack = ParameterStack.draw(SPEC, [np.random.default_rng(r) for r in range(n_runs)], torch.device("cpu"))
    stack = ParameterStack(SPEC, stack.buffer.double())
    return stack, make_optimizer(stack, hyper), hyper


def gradients(rng: np.random.Generator, n_runs: int = 3) -> Tensor:
    """From tiny (zero included) to huge."""
    gradient = torch.from_numpy(rng.normal(size=(n_runs, 50)) * 10.0 ** rng.integers(-6, 4, (n_runs, 1)))
    gradient[:, :3] = 0.0
    return gradient


class Reference:
    """One part of one run, stepped by torch.optim."""

    def __init__(self, values: Tensor, settings: dict[str, Any]) -> None:
        self.values = torch.nn.Parameter(values.clone())
        own = {name.partition("_")[2]: value for name, value in settings.items() if name != "optimizer"}
        if settings["optimizer"] == "adam":
            betas = own.get("beta1", 0.9), own.get("beta2", 0.999)
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
                [self.values], lr=1e-2, betas=betas, eps=own.get("eps", 1e-8)
            )
        else:
            self.optimizer = torch.optim.RMSprop(
                [self.values], lr=1e-2, alpha=own.get("alpha", 0.99), eps=own.get("eps", 1e-5)
            )

    def step(self, gradient: Tensor) -> float:
        self.values.grad = gradient.clone()
        norm = torch.nn.utils.clip_grad_norm_([self.values], CLIP)
        self.optimizer.step()
        return float(norm)


@EVERY
def test_steps_and_norms_are_torchs(settings: dict[str, Any]) -> None:
    stack, optimizer, _ = start(settings)
    references = [Reference(stack.online[r], settings) for r in range(3)]
    rng = np.random.default_rng(0)
    clipped = 0
    for k in range(200):
        gradient = gradients(rng)
        stack.grad.copy_(gradient)
        norms = optimizer.step(stack)
        for r, reference in enumerate(references):
            norm = reference.step(gradient[r])
            assert float(norms[r]) == pytest.approx(norm, rel=1e-12), k
            clipped += norm > CLIP
            torch.testing.assert_close(stack.online[r], reference.values.detach(), rtol=1e-9, atol=1e-12)
    assert 50 < clipped < 550


@EVERY
def test_parts_have_their_own_clocks_and_idle_runs_none(settings: dict[str, Any]) -> None:
    """Actor and critic at unlike rates, some runs left out of some steps, others leaving the stack for good."""
    stack, optimizer, _ = start(settings)
    parts = ("actor.", "critic.")
    references = {(r, part): Reference(stack.online[r, PARTS[part]], settings) for r in range(3) for part in parts}
    rng, rows = np.random.default_rng(1), [0, 1, 2]
    for k in range(120):
        if k == 60:
            keep = torch.tensor([2, 0])
            stack, rows = stack.select(keep), [2, 0]
            optimizer.select(keep)
        part = "critic." if k % 3 else "actor."
        idle = torch.from_numpy(rng.random(len(rows)) < 0.3)
        gradient = gradients(rng, len(rows))
        stack.grad.copy_(gradient)
        optimizer.step(stack, part, idle)
        for row, r in enumerate(rows):
            if not idle[row]:
                references[r, part].step(gradient[row, PARTS[part]])
            for name in parts:
                expected = references[r, name].values.detach()
                torch.testing.assert_close(stack.online[row, PARTS[name]], expected, rtol=1e-9, atol=1e-12)


@EVERY
def test_state_continues_to_the_bit(settings: dict[str, Any]) -> None:
    """What a checkpoint holds is all there is."""
    stack, optimizer, hyper = start(settings)
    rng = np.random.default_rng(2)
    for part in ("actor.", "critic.", "critic."):
        stack.grad.copy_(gradients(rng))
        optimizer.step(stack, part)
    again = ParameterStack(SPEC, stack.buffer.clone())
    resumed = make_optimizer(again, hyper)
    resumed.load({name: tensor.clone() for name, tensor in optimizer.state.items()})
    for part in ("critic.", "actor.", ""):
        gradient = gradients(rng)
        for each, its in ((stack, optimizer), (again, resumed)):
            each.grad.copy_(gradient)
            its.step(each, part)
    assert torch.equal(stack.online, again.online)


def test_float32_as_in_training() -> None:
    """Adam's small eps and the floor under the root in 32 bits."""
    for settings in ({"optimizer": "rmsprop"}, {"optimizer": "adam"}):
        stack, _, hyper = start(settings)
        stack = ParameterStack(SPEC, stack.buffer.float())
        optimizer = make_optimizer(stack, hyper)
        references = [Reference(stack.online[r], settings) for r in range(3)]
        rng = np.random.default_rng(3)
        for _ in range(50):
            gradient = gradients(rng).float()
            stack.grad.copy_(gradient)
            optimizer.step(stack)
            for r, reference in enumerate(references):
                reference.step(gradient[r])
                torch.testing.assert_close(stack.online[r], reference.values.detach(), rtol=1e-4, atol=1e-6)
