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
    """Averages an image's channels, and its pixels over a grid of at most `side` x `side` fields, as even as can be.

    Args:
        space: of the image. side: most rows and columns.

    Attributes:
        n_pixels: numbers of the image. width: numbers of the result.
        low, high: their bounds; a brightest pixel gives 1.
    """

    def __init__(self, space: spaces.Box, side: int) -> None:
        image = image_shape(space)
        assert image is not None, space
        height, width, channels = sizes(image)
        self._image, self._first, self.n_pixels = image, channel_axis(image) == 0, math.prod(image)
        largest = brightest(space)
        self._rows, self._columns = _starts(height, side), _starts(width, side)
        pixels = np.outer(np.diff(self._rows, append=height), np.diff(self._columns, append=width))
        self._factors = (1.0 / (pixels * channels * largest)).astype(np.float32)
        self.width = self._factors.size
        self.low, self.high = min(float(np.min(space.low)) / largest, 0.0), float(np.max(space.high)) / largest

    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """Any array of as many numbers as the image -> float32 [width], row by row."""
        image = np.asarray(picture).reshape(self._image)
        image = image if self._first else np.moveaxis(image, 2, 0)
        # Sums over fields and no matrix products: NumPy's would start threads beside the environments'.
        rows = np.add.reduceat(image, self._rows, axis=1, dtype=np.float32).sum(0)
        small: np.ndarray = np.add.reduceat(rows, self._columns, axis=1) * self._factors
        return small.ravel()


def _starts(n: int, side: int) -> np.ndarray:
    """Where each of at most `side` fields of n pixels begins: of whole pixels, and as even as they can be."""
    fields = min(side, n)
    return np.arange(fields) * n // fields
