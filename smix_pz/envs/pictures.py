"""Image spaces as the team view meets them, and small grey pictures of them for the team's state.

An image of the game as a state would give a mixing network's hypernetworks hundreds of thousands of inputs. A state
made of pictures is therefore averaged: it keeps where things are, not what they look like.
"""

from __future__ import annotations

import math

import numpy as np
from gymnasium import spaces

from smix_pz.images import Image, channel_axis, is_picture, sizes

STATE_SIDE = 16  # pixels of a state() that is an image: at most 16 x 16
AGENT_SIDE = 8  # pixels of each agent's image, where these make the state: at most 8 x 8


def image_shape(space: spaces.Space | None) -> Image | None:
    """The shape of a Box of three or two dimensions, [H, W] as (H, W, 1); None for anything else."""
    if not isinstance(space, spaces.Box) or len(space.shape) not in (2, 3):
        return None
    shape = tuple(int(n) for n in space.shape)
    return (*shape, 1) if len(shape) == 2 else shape  # type: ignore[return-value]


def brightest(space: spaces.Box) -> float:
    """The largest value of a pixel; 1 where the space sets no bound or none above 0."""
    high = float(np.max(space.high))
    return high if math.isfinite(high) and high > 0 else 1.0


def small_grey(space: spaces.Space | None, side: int) -> GreyPicture | None:
    """What averages pictures of this space; None if it has none that are large enough to be pictures."""
    return GreyPicture(space, side) if isinstance(space, spaces.Box) and is_picture(image_shape(space)) else None


class GreyPicture:
    """Averages an image's channels, and its pixels over an even grid of at most `side` x `side` fields.

    Args:
        space: of the image. side: most rows and columns.

    Attributes:
        width: numbers of the result. low, high: their bounds; a brightest pixel gives 1.
    """

    def __init__(self, space: spaces.Box, side: int) -> None:
        image = image_shape(space)
        assert image is not None, space
        height, width, _ = sizes(image)
        self._image, self._first = image, channel_axis(image) == 0
        largest = brightest(space)
        self._rows = _averages(height, min(side, height)) / np.float32(largest)
        self._columns = _averages(width, min(side, width)).T
        self.width = self._rows.shape[0] * self._columns.shape[1]
        self.low, self.high = min(float(np.min(space.low)) / largest, 0.0), float(np.max(space.high)) / largest

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Any array of as many numbers as the image -> float32 [width], row by row."""
        image = np.asarray(picture, np.float32).reshape(self._image)
        if self._first:
            grey = self._rows @ image.mean(0)
        else:
            # Rows first: the mean over the last axis of a whole picture takes much longer than the product.
            flat = self._rows @ image.reshape(image.shape[0], -1)
            grey = flat.reshape(len(flat), *image.shape[1:]).mean(-1)
        small: np.ndarray = (grey @ self._columns).ravel()
        return small


def _averages(n: int, fields: int) -> np.ndarray:
    """[fields, n] float32: each row averages an equal share of n pixels, parts of pixels included."""
    edges = np.linspace(0.0, n, fields + 1)
    pixels = np.arange(n)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0.0) * (fields / n)).astype(np.float32)
