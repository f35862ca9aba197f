"""Images in the team view: what the spec says, that pixels stay as they are, and the small grey pictures of a state."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from tiny_envs import AGENTS, Pictures, PicturesChannelsFirst, PicturesFloat, PicturesGrey, PicturesWithState, TinyEnv

from smix_pz.envs import TeamEnv, make_vector_env
from smix_pz.envs.pictures import GreyPicture, image_shape, small_grey


def by_loops(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Mean over channels and over the pixels of each field, pixel by pixel; field k of m begins at floor(k n / m)."""
    height, width, channels = image.shape
    found, count = np.zeros((rows, columns)), np.zeros((rows, columns))
    for y in range(height):
        for x in range(width):
            r = max(k for k in range(rows) if k * height // rows <= y)
            c = max(k for k in range(columns) if k * width // columns <= x)
            found[r, c] += sum(float(value) for value in image[y, x]) / channels
            count[r, c] += 1
    assert count.max() - count.min() <= height // rows + width // columns + 1
    return found / count


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((16, 16, 3), (8, 8)), ((20, 13, 3), (8, 8)), ((3, 31, 14), (8, 8)), ((12, 40), (8, 8)), ((12, 12, 1), (8, 8))],
)
def test_grey_pictures_are_averages(shape: tuple[int, ...], expected: tuple[int, int]) -> None:
    space = spaces.Box(0, 255, shape, np.uint8)
    picture = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    grey = small_grey(space, 8)
    assert grey is not None
    last = picture[..., None] if len(shape) == 2 else picture.transpose(1, 2, 0) if shape[0] == 3 else picture
    found = grey(picture)
    assert found.dtype == np.float32 and found.shape == (grey.width,) == (expected[0] * expected[1],)
    np.testing.assert_allclose(found.reshape(expected), by_loops(last, *expected) / 255, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grey(picture.ravel()), found)  # rows of the team view are flat
    assert (grey.low, grey.high) == (0.0, 1.0)


def test_what_counts_as_an_image() -> None:
    assert image_shape(spaces.Box(0, 1, (84, 84))) == (84, 84, 1)
    assert image_shape(spaces.Box(0, 1, (4, 84, 84))) == (4, 84, 84)
    for other in (spaces.Box(0, 1, (84,)), spaces.Box(0, 1, (2, 84, 84, 3)), spaces.Discrete(3), None):
        assert image_shape(other) is None
    assert small_grey(spaces.Box(0, 1, (11, 84, 3)), 8) is None and small_grey(spaces.Box(0, 1, (27, 5)), 8) is None
    unbounded = GreyPicture(spaces.Box(-np.inf, np.inf, (12, 12, 3), np.float32), 4)
    assert unbounded.low == -np.inf and unbounded(np.full((12, 12, 3), 7.0)) == pytest.approx(np.full(16, 7.0))


@pytest.mark.parametrize(
    ("kind", "image", "dtype", "scale"),
    [
        (Pictures, (16, 16, 3), "uint8", 1 / 255),
        (PicturesChannelsFirst, (3, 16, 16), "uint8", 1 / 255),
        (PicturesGrey, (16, 16, 1), "uint8", 1 / 255),
        (PicturesFloat, (16, 16, 3), "float32", 1.0),
    ],
)
def test_the_team_view_says_that_it_shows_images(kind: type, image: tuple, dtype: str, scale: float) -> None:
    team, plain = TeamEnv(kind()), kind()
    spec = team.team_spec
    assert (spec.obs_image, spec.obs_dtype, spec.obs_scale) == (image, dtype, pytest.approx(scale))
    view, _ = team.reset(seed=3)
    observations, _ = plain.reset(seed=3)
    assert view["obs"].dtype == dtype and team.observation_space.contains(view)
    for row, agent in enumerate(AGENTS):
        np.testing.assert_array_equal(view["obs"][row], observations[agent].ravel())
    # No state(): both agents' pictures, averaged to 8 x 8.
    assert spec.state_dim == 2 * 64
    pixels = [np.asarray(observations[agent], float) / (255 if dtype == "uint8" else 1) for agent in AGENTS]
    last = [p[..., None] if p.ndim == 2 else p.transpose(1, 2, 0) if p.shape[0] == 3 else p for p in pixels]
    expected = np.concatenate([by_loops(p, 8, 8).ravel() for p in last])
    np.testing.assert_allclose(view["state"], expected, rtol=1e-4, atol=1e-5)
    check_env(TeamEnv(kind()), skip_render_check=True)


def test_a_state_that_is_an_image_is_averaged(caplog: pytest.LogCaptureFixture) -> None:
    """320 x 640 x 3 pixels to 256 numbers; the log says so."""
    with caplog.at_level(logging.INFO, "smix_pz"):
        team = TeamEnv(PicturesWithState(), env_id="pictures with a state")
        TeamEnv(Pictures(), env_id="pictures without")
    assert "with a state has an image for its state(): a small grey picture of it, 256 numbers, is" in caplog.text
    assert "without has no state(): small grey pictures of its agents' images, 64 numbers each, are" in caplog.text
    view, _ = team.reset(seed=5)
    other = PicturesWithState()
    other.reset(seed=5)
    whole = other.state().astype(float).mean(-1) / 255
    expected = whole.reshape(16, 20, 16, 40).mean((1, 3))
    assert team.team_spec.state_dim == 256
    np.testing.assert_allclose(view["state"], expected.ravel(), rtol=1e-4, atol=1e-5)


def test_a_state_of_another_size_is_an_error() -> None:
    env = PicturesWithState()
    team = TeamEnv(env)
    env.state_space = spaces.Box(0, 255, (320, 640, 3), np.uint8)
    env.state = lambda: np.zeros((320, 320, 3), np.uint8)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="has 307200 entries, expected 614400"):
        team.reset(seed=0)


def test_tiny_images_are_the_state_in_whole() -> None:
    """Below 12 x 12 the joined rows are the state, scaled as the network scales them."""
    space = spaces.Box(0, 255, (4, 5, 3), np.uint8)
    team = TeamEnv(Unlike(space, space))
    view, _ = team.reset()
    assert view["obs"].dtype == np.uint8 and team.team_spec.state_dim == 120
    np.testing.assert_allclose(view["state"], 1.0, rtol=1e-6)
    assert team.observation_space.contains(view)


class Unlike(TinyEnv):
    """Images of unlike shapes or kinds."""

    def __init__(self, first: spaces.Box, second: spaces.Box) -> None:
        super().__init__()
        self.observation_spaces = dict(zip(AGENTS, (first, second), strict=True))

    def _observe(self) -> dict[str, np.ndarray]:
        return {agent: space.high for agent, space in self.observation_spaces.items()}


def test_unlike_images() -> None:
    """Of unlike shapes they are padded rows; of one shape and unlike kinds, float32."""
    small, large = (spaces.Box(0, 255, (side, side, 3), np.uint8) for side in (12, 13))
    spec = TeamEnv(Unlike(small, large)).team_spec
    assert (spec.obs_image, spec.obs_dtype, spec.obs_dim) == (None, "float32", 13 * 13 * 3)
    view, _ = TeamEnv(Unlike(small, large)).reset()
    assert view["obs"][0].sum() == 255 * 432 and not view["obs"][0, 432:].any()
    spec = TeamEnv(Unlike(small, spaces.Box(0, 1, (12, 12, 3), np.float32))).team_spec
    assert (spec.obs_image, spec.obs_dtype, spec.obs_scale) == ((12, 12, 3), "float32", 1.0)


def test_vectors_of_pictures() -> None:
    """Pixels stay bytes through Gymnasium's vector environments."""
    vector = make_vector_env("tiny_envs:Pictures", 3)
    observation, _ = vector.reset(seed=[0, 1, 2])
    assert observation["obs"].dtype == np.uint8 and observation["obs"].shape == (3, 2, 768)
    for index in range(3):
        alone, _ = TeamEnv(Pictures()).reset(seed=index)
        np.testing.assert_array_equal(observation["obs"][index], alone["obs"])
    vector.close()
