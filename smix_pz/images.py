"""What an array says of itself as an image: where its channels are, and whether it is large enough to be one."""

from __future__ import annotations

Image = tuple[int, int, int]

# Arrays of fewer rows or columns are as well read as rows of numbers; they may also be tables rather than pictures.
SMALLEST_PICTURE = 12


def channel_axis(image: Image) -> int:
    """Where an image's channels are, 0 or 2: on the shorter of its two outer axes; the last one if they are equal."""
    return 0 if image[0] < image[2] else 2


def sizes(image: Image) -> Image:
    """(height, width, channels) of an array of that shape."""
    a, b, c = image
    return (b, c, a) if channel_axis(image) == 0 else (a, b, c)


def is_picture(image: Image | None) -> bool:
    """Whether there is an image of at least SMALLEST_PICTURE rows and columns."""
    return image is not None and min(sizes(image)[:2]) >= SMALLEST_PICTURE
