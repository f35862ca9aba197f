"""Films of pictures: GIF through Pillow, MP4 through imageio and ffmpeg (the extra `video`)."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from smix_pz.files import atomic_path
from smix_pz.names import nearest

SUFFIXES = (".gif", ".mp4")
GIF_TICK = 0.01  # seconds; a GIF counts its pictures' times in these
GIF_FASTEST = 50.0  # pictures a second; viewers slow down what is faster
PALETTE_FRAMES = 24  # pictures from which a GIF's colours are taken
COMMON_COLOURS = 128  # of its 256, how many are the commonest


def write_video(frames: Iterable[np.ndarray], path: Path | str, fps: float, hold: float = 0.0) -> None:
    """Write pictures as a film, atomically; the suffix of `path` says which kind.

    Args:
        frames: uint8 [height, width, 3], all of one size. An MP4 takes them one by one, a GIF holds them all.
        path: ends in .gif (repeats for ever) or .mp4 (H.264; an odd last row or column is dropped).
        fps: pictures a second; for a GIF at most 50.
        hold: seconds for which the last picture stays after its time.

    Raises:
        ValueError: unknown suffix; fps or hold out of range; no pictures; pictures of another kind or of unlike sizes.
        ImportError: an MP4 without imageio and imageio-ffmpeg.
    """
    path = Path(path)
    check_video(path, fps)
    if not 0.0 <= hold < float("inf"):
        raise ValueError(f"hold (seconds of the last picture) must be at least 0, got {hold}.")
    checked = _checked(frames)
    first = next(checked, None)
    if first is None:
        raise ValueError("a film needs at least one picture, got none.")
    write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    with atomic_path(path) as temporary:
        write(itertools.chain([first], checked), temporary, float(fps), float(hold))


def check_video(path: Path | str, fps: float) -> None:
    """Raise what `write_video` would of this path and speed, before any picture is made."""
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"a film is written as .gif or .mp4, got {str(path)!r}; {nearest(suffix, SUFFIXES)}")
    if not 0.0 < fps < float("inf"):
        raise ValueError(f"fps (pictures a second) must be positive, got {fps}.")
    if suffix == ".gif" and fps > GIF_FASTEST:
        raise ValueError(f"fps of a GIF must be at most {GIF_FASTEST:g}, got {fps:g}; write an .mp4 for more.")
    if suffix == ".mp4":
        _imageio()


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    shape: tuple[int, ...] | None = None
    for index, frame in enumerate(frames):
        frame = np.asarray(frame)
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3:
            raise ValueError(f"picture {index} must be uint8 [height, width, 3], got {frame.dtype} {frame.shape}.")
        if shape is not None and frame.shape != shape:
            raise ValueError(f"picture {index} has shape {frame.shape}, the first one has {shape}: sizes must agree.")
        shape = frame.shape
        yield frame


def _write_gif(frames: Iterable[np.ndarray], path: Path, fps: float, hold: float) -> None:
    pictures = list(frames)
    images = _indexed(pictures, _palette(pictures))
    # Times are whole ticks; rounding where each picture begins keeps the film's length.
    begins = [round(index / fps / GIF_TICK) for index in range(len(images) + 1)]
    ticks = [after - before for before, after in itertools.pairwise(begins)]
    ticks[-1] += round(hold / GIF_TICK)
    images[0].save(
        path,
        format="GIF",
        save_all=True,
        append_images=images[1:],
        duration=[round(1000 * GIF_TICK) * tick for tick in ticks],
        loop=0,
        optimize=True,
        disposal=1,  # each picture is drawn over the one before
    )


def _palette(pictures: list[np.ndarray]) -> np.ndarray:
    """At most 256 colours for all pictures, uint8 [colours, 3].

    The commonest ones, then always the one that is farthest from all chosen so far: it is their rarity that would cost
    the few pixels of a shot their colour, if colours were weighed by it.
    """
    chosen = [*pictures[:: -(-len(pictures) // PALETTE_FRAMES)], pictures[-1]]
    codes, counts = np.unique(
        np.concatenate([_colour_codes(picture).ravel() for picture in chosen]), return_counts=True
    )
    candidates = _colours(codes).astype(np.float32)
    palette = list(np.argsort(-counts, kind="stable")[:COMMON_COLOURS])
    distance = np.full(len(codes), np.inf, np.float32)
    for index in palette:
        np.minimum(distance, ((candidates - candidates[index]) ** 2).sum(1), out=distance)
    while len(palette) < min(256, len(codes)):
        palette.append(int(distance.argmax()))
        np.minimum(distance, ((candidates - candidates[palette[-1]]) ** 2).sum(1), out=distance)
    return candidates[palette].astype(np.uint8)


def _indexed(pictures: list[np.ndarray], palette: np.ndarray) -> list[Image.Image]:
    """Pictures in the palette's nearest colours; empties the list that it is given.

    There is no dithering, so that what does not change stays the same: that is most of a picture, and costs no bytes.
    Pillow's own search is of 6 bits a channel only, which would change the commonest colours too.
    """
    table, known = np.zeros(1 << 24, np.uint8), np.zeros(1 << 24, bool)
    entries = palette.astype(np.float32)
    lengths = (entries**2).sum(1)
    images = []
    while pictures:
        codes = _colour_codes(pictures.pop(0))
        fresh = np.unique(codes[~known[codes]])
        for start in range(0, len(fresh), 65536):
            part = fresh[start : start + 65536]
            table[part] = (lengths - 2 * _colours(part).astype(np.float32) @ entries.T).argmin(1)
            known[part] = True
        image = Image.fromarray(table[codes])
        image.putpalette(palette.tobytes())
        images.append(image)
    return images


def _colour_codes(picture: np.ndarray) -> np.ndarray:
    """Each pixel's colour as one number, uint32 [height, width]."""
    red, green, blue = (picture[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _colours(codes: np.ndarray) -> np.ndarray:
    """What `_colour_codes` coded, uint8 [..., 3]."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.uint8)


def _write_mp4(frames: Iterable[np.ndarray], path: Path, fps: float, hold: float) -> None:
    writer = _imageio().get_writer(
        path,
        format="FFMPEG",
        mode="I",
        fps=fps,
        codec="libx264",
        pixelformat="yuv420p",
        quality=8,
        macro_block_size=1,
        ffmpeg_log_level="error",
        output_params=["-movflags", "+faststart"],
    )
    with closing(writer):  # the writer's own context would leave ffmpeg running after an error
        last = None
        for frame in frames:
            last = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]  # yuv420p needs even sizes
            if not last.size:
                raise ValueError(f"an MP4 needs pictures of at least 2 x 2, got {frame.shape[0]} x {frame.shape[1]}.")
            writer.append_data(np.ascontiguousarray(last))
        for _ in range(round(hold * fps)):
            writer.append_data(np.ascontiguousarray(last))


def _imageio() -> Any:
    try:
        importlib.import_module("imageio_ffmpeg")  # what imageio writes MP4 with
        return importlib.import_module("imageio.v2")
    except ImportError as error:
        raise ImportError(
            "an .mp4 needs imageio and imageio-ffmpeg: pip install smix-pz[video]. Without them, write a .gif."
        ) from error
