"""What a network does with observations before its first layer: scale them, or read them by a convolutional network.

Observations come as rows [.., O], images in the order of their space, as uint8 where the space is. ``scale`` brings
them to [0, 1]: 1/255 for uint8. An encoder declares its parameters for one run, as every network here, under a prefix
of its own, so that an actor and a critic can each have one.

Shapes: ``G`` networks (runs, or runs times agents), ``L`` rows, ``O`` numbers of an observation, ``F`` features.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn.functional import conv2d
from torch.utils.checkpoint import checkpoint

from smix_pz.algorithms.networks import Parameter, Params
from smix_pz.images import SMALLEST_PICTURE, Image, channel_axis, is_picture, sizes

# The layers end when so many places are left: 9 x 9, as of the DQN's 84 x 84 pixels, is the most that is kept.
MOST_PLACES = 100
# Layers' outputs of so many bytes are kept for the gradient; of a longer unroll, they are computed again.
KEPT_BYTES = 256 * 2**20


class Encoder(Protocol):
    """What an agent or a critic asks of one."""

    @property
    def width(self) -> int:
        """F, features of one observation."""

    def parameters(self) -> dict[str, Parameter]:
        """What one run's encoder learns."""

    def __call__(self, params: Params, obs: Tensor) -> Tensor:
        """obs [G, L, O] -> [G, L, F]."""


@dataclass(frozen=True)
class FlatEncoder:
    """Observations as they are, times ``scale``."""

    width: int
    scale: float = 1.0

    def parameters(self) -> dict[str, Parameter]:
        """None."""
        return {}

    def __call__(self, params: Params, obs: Tensor) -> Tensor:
        """obs [G, L, O] -> [G, L, O] in the precision of the parameters."""
        return _scaled(params, obs, self.scale)


class Convolution(NamedTuple):
    """A layer: square kernels without padding, then ReLU."""

    features: int
    kernel: int
    stride: int


@dataclass(frozen=True)
class ImageEncoder:
    """A small convolutional network; each run has its own weights.

    Its layers follow from the image's size: the first DQN's (Mnih et al. 2013: 16 of 8 x 8, stride 4; 32 of 4 x 4,
    stride 2) from 36 pixels on, smaller kernels and strides below, and, while more than 100 places are left, further
    layers of 32 of 3 x 3, stride 2.

    Attributes:
        image: the observation space's shape in three numbers, see ``images.channel_axis``.
        scale: factor on the pixels.
        prefix: what the parameters' names begin with.
    """

    image: Image
    scale: float = 1.0
    prefix: str = "agent"

    @cached_property
    def layers(self) -> tuple[Convolution, ...]:
        """The layers, first to last."""
        height, width, _ = sizes(self.image)
        side = min(height, width)
        if side >= 36:
            layers = [Convolution(16, 8, 4), Convolution(32, 4, 2)]
        elif side >= SMALLEST_PICTURE:
            layers = [Convolution(16, 4, 2), Convolution(32, 3, 2)]
        elif side >= 5:
            layers = [Convolution(16, 3, 1), Convolution(32, 3, 1)]
        elif side >= 3:
            layers = [Convolution(16, 3, 1)]
        else:
            raise ValueError(
                f"an image of {height} x {width} pixels is too small for a CNN, which needs 3 x 3; "
                "expected image_encoder 'flat' or 'auto'"
            )
        for layer in layers:
            height, width = _after(layer, height), _after(layer, width)
        while height * width > MOST_PLACES and min(height, width) >= 3:
            layers.append(Convolution(32, 3, 2))
            height, width = _after(layers[-1], height), _after(layers[-1], width)
        return tuple(layers)

    @cached_property
    def width(self) -> int:
        """F: features times places of the last layer."""
        return math.prod(self._shapes[-1])

    @cached_property
    def _shapes(self) -> list[tuple[int, int, int]]:
        """(features, height, width) of the image and behind every layer."""
        height, width, channels = sizes(self.image)
        shapes = [(channels, height, width)]
        for layer in self.layers:
            _, height, width = shapes[-1]
            shapes.append((layer.features, _after(layer, height), _after(layer, width)))
        return shapes

    def parameters(self) -> dict[str, Parameter]:
        """Weights [features, channels, k, k] and biases [features], drawn as torch.nn.Conv2d draws them."""
        spec = {}
        for index, (layer, (channels, _, _)) in enumerate(zip(self.layers, self._shapes, strict=False)):
            fan_in = channels * layer.kernel**2
            weight = (layer.features, channels, layer.kernel, layer.kernel)
            spec[f"{self.prefix}.conv{index}.weight"] = Parameter(weight, fan_in)
            spec[f"{self.prefix}.conv{index}.bias"] = Parameter((layer.features,), fan_in)
        return spec

    def __call__(self, params: Params, obs: Tensor) -> Tensor:
        """obs [G, L, O] -> [G, L, F]."""
        # Network by network: one grouped convolution takes up to twice as long on a CPU (5 runs of 256 pictures of
        # 84 x 84: 103 ms against 50), and so a run's features are those that it has alone, to the bit.
        names = list(self.parameters())
        return torch.stack([self._rows(pixels, *(params[n][g] for n in names)) for g, pixels in enumerate(obs)])

    def _rows(self, pixels: Tensor, *weights: Tensor) -> Tensor:
        """pixels [L, O] of one network -> [L, F]."""
        most = max(1, KEPT_BYTES // (weights[0].element_size() * sum(math.prod(shape) for shape in self._shapes)))
        if len(pixels) <= most:
            return self._convolve(pixels, *weights)
        if not torch.is_grad_enabled():
            return torch.cat([self._convolve(piece, *weights) for piece in pixels.split(most)])
        pieces = [
            checkpoint(self._convolve, piece, *weights, use_reentrant=False, preserve_rng_state=False)
            for piece in pixels.split(max(1, most // 4))
        ]
        return torch.cat(pieces)

    def _convolve(self, pixels: Tensor, *weights: Tensor) -> Tensor:
        x = self.channels_in_front(pixels).to(weights[0].dtype) * self.scale
        for index, layer in enumerate(self.layers):
            x = conv2d(x, weights[2 * index], weights[2 * index + 1], stride=layer.stride).relu()
        return x.flatten(1)

    def channels_in_front(self, pixels: Tensor) -> Tensor:
        """Rows [L, O] as the images that they hold, [L, channels, height, width]."""
        images = pixels.unflatten(1, self.image)
        return images.movedim(3, 1) if channel_axis(self.image) == 2 else images


def choose_image(choice: str, obs_image: Image | None) -> Image | None:
    """The image that a CNN is to read, or None where observations are read as flat rows.

    Args:
        choice: "auto", "cnn" or "flat".
        obs_image: the shape of all agents' observations, None if they are no images or differ.

    Raises:
        ValueError: "cnn" without images, or for images of less than 3 x 3.
    """
    if choice == "flat":
        return None
    if obs_image is None:
        if choice == "cnn":
            raise ValueError(
                "image_encoder is 'cnn', but the observations are no images: all agents need Boxes of one shape, "
                "[height, width, channels], [channels, height, width] or [height, width]; expected 'auto' or 'flat'"
            )
        return None
    if choice == "auto" and not is_picture(obs_image):
        return None
    ImageEncoder(obs_image).layers  # noqa: B018 (raises where there can be none)
    return obs_image


def _after(layer: Convolution, side: int) -> int:
    return (side - layer.kernel) // layer.stride + 1


def _scaled(params: Params, obs: Tensor, scale: float) -> Tensor:
    if not obs.is_floating_point():
        obs = obs.to(next(iter(params.values())).dtype)
    return obs if scale == 1.0 else obs * scale
