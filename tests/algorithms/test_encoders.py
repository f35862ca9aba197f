"""Images: the CNN against plain torch.nn.Conv2d of one run at a time, values, gradients and whole updates."""

from __future__ import annotations

import dataclasses
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from oracle.batches import random_batch
from oracle.coma import LoopCOMA
from oracle.dense import DenseLearner, Picture
from test_learners import SMALL, assert_same, gradient_of, run_of
from torch import Tensor

from smix_pz.algorithms import ALGORITHMS, Learner, encoders, make_learner
from smix_pz.algorithms.agents import make_agent
from smix_pz.algorithms.coma import COMALearner
from smix_pz.algorithms.encoders import FlatEncoder, ImageEncoder
from smix_pz.algorithms.networks import ParameterStack
from smix_pz.algorithms.optimizers import make_optimizer
from smix_pz.config import Hyperparameters
from smix_pz.episodes import EpisodeBatch, history_keys

# Layers as the documentation lists them, for a small and for a tiny picture, channels last and first.
SMALL_PICTURE = Picture((12, 13, 3), 2, ((16, 4, 2), (32, 3, 2)), 1 / 255)
TINY_PICTURE = Picture((2, 6, 5), 0, ((16, 3, 1), (32, 3, 1)), 1 / 255)
SHAPE = {"n_agents": 2, "n_actions": 3, "state_dim": 4}


def picture_batch(seed: int, picture: Picture, n_runs: int = 2, as_bytes: bool = True, **sizes: int) -> EpisodeBatch:
    """A batch whose observations are pictures, in float64 besides."""
    obs_dim = math.prod(picture.shape)
    batch = random_batch(
        np.random.default_rng([seed, 3]), n_runs=n_runs, dtype=torch.float64, obs_dim=obs_dim, n_scenes=3,
        **{**SHAPE, "n_episodes": 4, "n_steps": 3, **sizes},
    )  # fmt: skip
    pixels = (batch.obs * 60 + 128).clamp(0, 255).to(torch.uint8)
    keys = history_keys(pixels, batch.state.float(), batch.avail_actions, batch.actions)
    assert torch.equal(keys[..., None] == keys[..., None, :], batch.history[..., None] == batch.history[..., None, :])
    return dataclasses.replace(batch, obs=pixels if as_bytes else pixels.double(), history=keys)


def learner_of(name: str, hyper: Hyperparameters, picture: Picture, seeds: list[int]) -> Learner:
    learner = make_learner(
        ALGORITHMS[name], **SHAPE, obs_dim=math.prod(picture.shape), obs_image=picture.shape, obs_scale=picture.scale,
        hyper=hyper, rngs=[np.random.default_rng(seed) for seed in seeds], device=torch.device("cpu"),
    )  # fmt: skip
    learner.stack = ParameterStack(learner.stack.spec, learner.stack.buffer.double())
    learner.optimizer = make_optimizer(learner.stack, hyper)
    return learner


@pytest.mark.parametrize(
    ("name", "picture", "changes"),
    [
        ("vdn", SMALL_PICTURE, {}),
        ("iql", SMALL_PICTURE, {"agent_network": "ff"}),
        ("smix", SMALL_PICTURE, {"parameter_sharing": False, "optimizer": "adam"}),
        ("qmix", TINY_PICTURE, {"parameter_sharing": False, "agent_network": "ff"}),
        ("qtran", TINY_PICTURE, {}),
    ],
)
@pytest.mark.parametrize("as_bytes", [True, False], ids=["uint8", "float"])
def test_updates_are_those_of_plain_convolutions(
    name: str, picture: Picture, changes: dict[str, Any], as_bytes: bool
) -> None:
    """Two stacked runs against two single networks of torch.nn layers over three updates, the target copied once."""
    hyper = Hyperparameters(**{**SMALL, "image_encoder": "cnn", **changes})
    learner = learner_of(name, hyper, picture, [0, 1])
    shape = {**SHAPE, "obs_dim": math.prod(picture.shape)}
    dense = [DenseLearner(ALGORITHMS[name], hyper, shape, torch.float64, picture) for _ in range(2)]
    for r, one in enumerate(dense):
        one.load(run_of(learner.stack.params, r))
    tolerance = {"rtol": 1e-7, "atol": 1e-9}
    for k in range(3):
        batch = picture_batch(k, picture, as_bytes=as_bytes)
        metrics = learner.update(batch)
        for r, one in enumerate(dense):
            loss, norm = one.update(batch.map(lambda field, r=r: field[r]))
            found = [float(metrics[key][r]) for key in ("loss", "grad_norm")]
            assert found == pytest.approx([loss, norm], rel=1e-7)
            gradient = gradient_of(learner, r)
            assert_same(gradient, one.gradients(), **tolerance)
            assert all(float(g.abs().max()) > 1e-6 for n, g in gradient.items() if "conv" in n)
            assert_same(run_of(learner.stack.params, r), one.online.layout(), **tolerance)
        if k == 0:
            learner.stack.sync_target()
            for one in dense:
                one.sync_target()


def test_comas_actor_and_critic_have_cnns_of_their_own() -> None:
    hyper = Hyperparameters(**SMALL, image_encoder="cnn", coma_critic_dim=7, coma_critic_update="sequential")
    learner = learner_of("coma", hyper, TINY_PICTURE, [0, 1])
    assert isinstance(learner, COMALearner)
    shape = {**SHAPE, "obs_dim": math.prod(TINY_PICTURE.shape)}
    loops = [LoopCOMA(hyper, 0.8, shape, TINY_PICTURE) for _ in range(2)]
    for r, one in enumerate(loops):
        one.load(run_of(learner.stack.params, r))
    epsilon = torch.tensor([0.3, 0.1]).double()
    for k in range(2):
        batch = picture_batch(k, TINY_PICTURE, n_episodes=2)
        learner.update(batch), learner.update_policy(batch, epsilon)
        for r, one in enumerate(loops):
            mine = batch.map(lambda field, r=r: field[r])
            one.update_critic(mine), one.update_policy(mine, float(epsilon[r]))
            assert_same(gradient_of(learner, r), one.gradients(), rtol=1e-7, atol=1e-9)
            assert_same(run_of(learner.stack.params, r), one.layout(), rtol=1e-7, atol=1e-9)
    convolutions = [name for name in learner.stack.spec if "conv" in name]
    assert {name.partition(".")[0] for name in convolutions} == {"agent", "critic"} and len(convolutions) == 8


@pytest.mark.parametrize("name", ["vdn", "smix", "coma"])
def test_a_stack_is_its_runs(name: str) -> None:
    """Run 1 of three is run 1 alone; and long unrolls, whose activations are computed twice, have the same gradient."""
    hyper = Hyperparameters(**SMALL)
    stack, alone, frugal = (learner_of(name, hyper, SMALL_PICTURE, s) for s in ([0, 1, 2], [1], [0, 1, 2]))
    for k in range(3):
        batch = picture_batch(k, SMALL_PICTURE, n_runs=3)
        stack.update(batch)
        alone.update(batch.runs([1]))
        with mock.patch.object(encoders, "KEPT_BYTES", 40_000):
            with mock.patch.object(encoders, "checkpoint", wraps=encoders.checkpoint) as recomputed:
                frugal.update(batch)
            assert recomputed.call_count > 3
    torch.testing.assert_close(stack.stack.buffer[:, [1]], alone.stack.buffer, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(stack.stack.buffer, frugal.stack.buffer, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("image", "layers", "width"),
    [
        ((84, 84, 1), ((16, 8, 4), (32, 4, 2)), 32 * 9 * 9),
        ((4, 84, 84), ((16, 8, 4), (32, 4, 2)), 32 * 9 * 9),
        ((36, 40, 3), ((16, 8, 4), (32, 4, 2)), 32 * 3 * 3),
        ((35, 35, 3), ((16, 4, 2), (32, 3, 2)), 32 * 7 * 7),
        ((12, 12, 1), ((16, 4, 2), (32, 3, 2)), 32 * 2 * 2),
        ((7, 7, 3), ((16, 3, 1), (32, 3, 1)), 32 * 3 * 3),
        ((5, 5, 3), ((16, 3, 1), (32, 3, 1)), 32),
        ((3, 4, 1), ((16, 3, 1),), 32),
        ((280, 480, 3), ((16, 8, 4), (32, 4, 2), (32, 3, 2), (32, 3, 2)), 32 * 7 * 13),
    ],
    ids=str,
)
def test_layers_follow_from_the_size(image: tuple[int, int, int], layers: tuple, width: int) -> None:
    """Channels are on the shorter outer axis; widths and shapes are torch's own, draws reach 1 / sqrt(fan in)."""
    encoder = ImageEncoder(image)
    assert encoder.layers == layers and encoder.width == width
    rng = np.random.default_rng(0)
    spec = encoder.parameters()
    stack = ParameterStack.draw(spec, [rng, rng], torch.device("cpu"))
    pixels = torch.from_numpy(rng.integers(0, 256, (2, 3, math.prod(image)), dtype=np.uint8))
    found = encoder(stack.params, pixels)
    assert found.shape == (2, 3, width) and found.dtype == torch.float32
    axis = 0 if image[0] < image[2] else 2
    picture = Picture(image, axis, layers)
    assert picture.n_features == width
    convolutions = [module for module in picture.convolutions() if isinstance(module, torch.nn.Conv2d)]
    assert [tuple(p.shape) for conv in convolutions for p in conv.parameters()] == [p.shape for p in spec.values()]
    many = ParameterStack.draw(spec, [np.random.default_rng(k) for k in range(8)], torch.device("cpu"))
    for name, conv in zip(spec, (conv for conv in convolutions for _ in ("weight", "bias")), strict=True):
        bound = 1 / math.sqrt(conv.in_channels * math.prod(conv.kernel_size))
        assert 0.8 * bound < float(many.params[name].detach().abs().max()) <= bound, name


def test_what_reads_what() -> None:
    """auto: a CNN from 12 x 12 on; cnn: from 3 x 3 on, and only for images."""
    sizes = {"n_agents": 2, "n_actions": 3}

    def encoder(choice: str, image: tuple[int, int, int] | None, obs_dim: int = 5, **more: Any) -> Any:
        hyper = Hyperparameters(image_encoder=choice)  # type: ignore[arg-type]
        return make_agent(hyper, **sizes, obs_dim=obs_dim, obs_image=image, **more).encoder

    assert encoder("auto", None) == FlatEncoder(5)
    assert encoder("auto", (11, 30, 3), 990) == FlatEncoder(990)
    assert encoder("auto", (12, 12, 3), 432, obs_scale=1 / 255) == ImageEncoder((12, 12, 3), 1 / 255)
    assert encoder("cnn", (7, 7, 3), 147) == ImageEncoder((7, 7, 3))
    assert encoder("flat", (84, 84, 1), 7056, obs_scale=0.5) == FlatEncoder(7056, 0.5)
    with pytest.raises(ValueError, match="image_encoder is 'cnn', but the observations are no images"):
        encoder("cnn", None)
    with pytest.raises(ValueError, match="2 x 9 pixels is too small"):
        encoder("cnn", (2, 9, 1), 18)


def test_flat_pixels_are_scaled() -> None:
    """uint8 rows that are read flat become numbers in the parameters' precision."""
    params: dict[str, Tensor] = {"agent.fc_in.weight": torch.zeros(1, 1, 1)}
    found = FlatEncoder(3, 1 / 255)(params, torch.tensor([[[0, 51, 255]]], dtype=torch.uint8))
    torch.testing.assert_close(found, torch.tensor([[[0.0, 0.2, 1.0]]]))
