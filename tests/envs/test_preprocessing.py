"""SuperSuit's wrappers by name: what they compute, in which order, what is refused and how; and our environments
inside SuperSuit's vector wrappers."""

from __future__ import annotations

import numpy as np
import pytest
import supersuit
import yaml
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from pettingzoo import ParallelEnv
from supersuit.utils.wrapper_chooser import WrapperChooser

from smix_pz.config import TrainConfig
from smix_pz.envs import TeamEnv, make_vector_env, masked_team_v0, matrix_game_v0, preprocess, smac_sim_v0
from smix_pz.envs.preprocessing import REFUSED, STEPS, check_steps
from smix_pz.steps import join_step, parse_step, step_text


class Camera(ParallelEnv):
    """Two agents look at the same 6x8 colour picture, whose brightness is 10 times the step; four steps."""

    metadata = {"name": "camera_v0"}  # noqa: RUF012
    possible_agents = ["left", "right"]  # noqa: RUF012
    max_cycles = 4
    state_space = spaces.Box(0, 255, (200, 200, 3), np.uint8)

    def __init__(self, high=255, dtype=np.uint8):
        self._space = spaces.Box(0, high, (6, 8, 3), dtype)

    def observation_space(self, agent):
        return self._space

    def action_space(self, agent):
        return spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        self.agents, self.time = self.possible_agents[:], 1
        return self._look(self.agents), {agent: {} for agent in self.agents}

    def step(self, actions):
        acted, self.time = self.agents, self.time + 1
        over = self.time > self.max_cycles
        self.agents = [] if over else acted
        paid = dict.fromkeys(acted, float(actions["left"]) * 5)
        return (
            self._look(acted),
            paid,
            dict.fromkeys(acted, False),
            dict.fromkeys(acted, over),
            {agent: {} for agent in acted},
        )

    def state(self):
        return np.zeros((200, 200, 3), np.uint8)

    def _look(self, agents):
        picture = np.zeros((6, 8, 3), np.uint8)
        picture[..., 1] = 10 * self.time  # green
        return {agent: picture.astype(self._space.dtype) for agent in agents}


# How steps are written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("flatten_v0", ("flatten_v0", [], {})),
        ("frame_stack_v1:4", ("frame_stack_v1", [4], {})),
        ("resize_v1:x_size=84,y_size=42", ("resize_v1", [], {"x_size": 84, "y_size": 42})),
        ("resize_v1: 84, 42, linear_interp=false", ("resize_v1", [84, 42], {"linear_interp": False})),
        ("reshape_v0:shape=[2, 3]", ("reshape_v0", [], {"shape": [2, 3]})),
        ("dtype_v0:float32", ("dtype_v0", ["float32"], {})),
        ("color_reduction_v0: {mode: full}", ("color_reduction_v0", [], {"mode": "full"})),
        ('x:a="b,c=d"', ("x", [], {"a": "b,c=d"})),
        (r'x:a=["\",\\"],b=1', ("x", [], {"a": ['",\\'], "b": 1})),
    ],
)
def test_a_step_is_read(text, parsed):
    assert parse_step(text) == parsed


@pytest.mark.parametrize("text", ["", ":4", "x:a=1,2", "x:a=1,a=2", "x:a=[1"])
def test_a_step_that_cannot_be_read(text):
    with pytest.raises(ValueError, match="preprocessing step"):
        parse_step(text)


VALUES = st.recursive(
    st.integers() | st.booleans() | st.text(st.characters(codec="ascii", exclude_categories=("C",)), max_size=8),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,6}", fullmatch=True), VALUES, max_size=3))
def test_a_step_reads_as_it_was_written(keywords):
    assert parse_step(join_step("name_v0", keywords)) == ("name_v0", [], keywords)
    assert parse_step(step_text({"name_v0": keywords})) == ("name_v0", [], keywords)


def test_a_configuration_takes_text_and_mappings():
    file = """
    preprocess:
      - color_reduction_v0: {mode: full}
      - resize_v1: {x_size: 4, y_size: 3}
      - flatten_v0
      - dtype_v0: float32
    """
    config = TrainConfig.from_dict(yaml.safe_load(file))
    assert config.preprocess == (
        "color_reduction_v0:mode=full",
        "resize_v1:x_size=4,y_size=3",
        "flatten_v0",
        "dtype_v0:float32",
    )
    assert TrainConfig(preprocess=[{"frame_stack_v1": 2}]).preprocess == ("frame_stack_v1:2",)
    with pytest.raises(TypeError, match="mapping from one name"):
        TrainConfig(preprocess=[{"a": 1, "b": 2}])


def test_every_wrapper_of_supersuit_is_known():
    """Either it may be used, or there is a reason why not; a new version of SuperSuit shows here."""
    own = {name for name in dir(supersuit) if "_v" in name and callable(getattr(supersuit, name))}
    own = {name for name in own if name.rpartition("_v")[2].isdigit()}
    assert own == STEPS.keys() | REFUSED.keys()
    assert any(isinstance(getattr(supersuit, name), WrapperChooser) for name in STEPS)


# What they compute ----------------------------------------------------------------------------------------------


def test_steps_are_applied_in_order():
    """Grey, smaller, the last two pictures side by side, then 0 to 1: each by hand."""
    steps = ["color_reduction_v0:full", "resize_v1:x_size=4,y_size=3", "frame_stack_v1:2", "dtype_v0:float32",
             "normalize_obs_v0"]  # fmt: skip
    team = TeamEnv(preprocess(Camera(), steps), state="observations")
    assert team.team_spec.obs_dim == 3 * 4 * 2 and team.team_spec.episode_limit == 4
    grey = [int(10 * time * np.float32(0.587)) / 255 for time in range(1, 6)]
    seen, _ = team.reset(seed=0)
    pictures = seen["obs"].reshape(2, 3, 4, 2)
    np.testing.assert_allclose(pictures[0, ..., 0], 0, atol=0)
    np.testing.assert_allclose(pictures[0, ..., 1], grey[0], rtol=1e-6)
    for time in range(1, 5):
        seen, _, terminated, truncated, _ = team.step(np.array([1, 0]))
        pictures = seen["obs"].reshape(2, 3, 4, 2)
        np.testing.assert_allclose(pictures[1, ..., 0], grey[time - 1], rtol=1e-6)
        np.testing.assert_allclose(pictures[1, ..., 1], grey[time], rtol=1e-6)
    assert (terminated, truncated) == (False, True)
    np.testing.assert_array_equal(seen["state"], seen["obs"].ravel())


def test_rewards_are_clipped():
    team = TeamEnv(preprocess(Camera(), "clip_reward_v0:-1,2"), state="observations")
    team.reset(seed=0)
    assert [team.step(np.array([action, 0]))[1] for action in (1, 0)] == [2.0, 0.0]


class LongState(Camera):
    """A state that is no picture, and too long for a mixer."""

    state_space = spaces.Box(0, 1, (120_000,), np.float32)


def test_a_state_too_long_for_a_mixer_is_refused_unless_observations_take_its_place():
    with pytest.raises(ValueError, match=r"120,000 entries.*team-state observations"):
        TeamEnv(LongState())
    steps = ("color_reduction_v0:full", "resize_v1:x_size=4,y_size=3")
    assert TeamEnv(preprocess(LongState(), steps), state="observations").team_spec.state_dim == 2 * 3 * 4
    assert TeamEnv(Camera()).team_spec.state_dim == 16 * 16  # a picture is made small


@pytest.mark.parametrize(
    ("name", "keywords"),
    [
        ("masked_team_v0", {"late_guard": True, "cut": 0.3}),
        ("masked_team_v0", {"cut": 0.0}),
        ("smac_sim_v0", {"map_name": "2s3z"}),
        ("mpe2.simple_speaker_listener_v4", {}),
        ("CartPole-v1", {}),
        ("lbforaging:Foraging-5x5-2p-1f-v3", {}),
    ],
)
def test_a_step_that_changes_nothing_changes_nothing(name, keywords):
    """Masks, deaths, late agents, ends, rewards and infos pass through SuperSuit (and its turn-based detour)."""
    flat = {"flat_obs": True} if name in ("masked_team_v0", "smac_sim_v0") else {}
    rule = "sum" if name.startswith("lbf") else None
    plain = make_vector_env(name, 2, vectorization="sync", reward=rule, **keywords)
    wrapped = make_vector_env(name, 2, reward=rule, preprocess=["dtype_v0:float32"], **flat, **keywords)
    specs = [envs.team_spec for envs in (plain, wrapped)]
    assert specs[0] == specs[1]
    rng, ended = np.random.default_rng(0), 0
    for episode in range(8):
        seeds = [2 * episode, 2 * episode + 1]
        (one, _), (other, _) = plain.reset(seed=seeds), wrapped.reset(seed=seeds)
        over = np.zeros(2, bool)
        for _ in range(specs[0].episode_limit):
            for key in one:
                np.testing.assert_array_equal(one[key], other[key])
            mask = one["action_mask"]
            actions = np.where(mask != 0, rng.random(mask.shape), -1.0).argmax(-1)
            (one, *ends, infos), (other, *others, told) = plain.step(actions), wrapped.step(actions)
            for a, b in zip(ends, others, strict=True):
                np.testing.assert_array_equal(a, b)
            assert infos.keys() == told.keys()
            over |= ends[1] | ends[2]
            if over.all():
                break
        ended += over.sum()
    assert ended == 16


# What is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("steps", "error", "message"),
    [
        (["resize_v2"], ValueError, "did you mean 'resize_v1'"),
        (["black_death_v3"], ValueError, "team view keeps agents"),
        (["observation_lambda_v0"], ValueError, "takes a function"),
        (["resize_v1:x_size=4,ysize=3"], TypeError, "did you mean 'y_size'"),
        (["resize_v1:x_size=4"], TypeError, "lacks 'y_size'"),
        (["frame_stack_v1:4,stack_size=2"], TypeError, "'?stack_size'? twice"),
        (["flatten_v0:3"], TypeError, "takes no arguments"),
        ("frame_skip_v0:num_frame=2", TypeError, "did you mean 'num_frames'"),
    ],
)
def test_names_and_arguments(steps, error, message):
    with pytest.raises(error, match=message):
        check_steps(steps)
    with pytest.raises(error, match=message):
        make_vector_env("matrix_game_v0", 1, preprocess=steps)


@pytest.mark.parametrize(
    ("env", "step", "message"),
    [
        (Camera(), "normalize_obs_v0", "put dtype_v0:float32 before it"),
        (matrix_game_v0.parallel_env(), "color_reduction_v0", r"needs a picture \[height, width, 3\]"),
        (matrix_game_v0.parallel_env(), "resize_v1:4,4", "needs a picture"),
        (Camera(), "color_reduction_v0:grey", "must be in"),
        (Camera(), "reshape_v0:[5, 5]", "as many elements"),
        (masked_team_v0.parallel_env(), "frame_stack_v1:2", r"scout_0, a Dict of action_mask.*flat_obs=True"),
        (masked_team_v0.parallel_env(), "sticky_actions_v0:0.2", "action masks"),
        (masked_team_v0.parallel_env(flat_obs=True), "sticky_actions_v0:0.2", "action masks"),
        (Camera(), "frame_skip_v0:2", "has none"),
    ],
)
def test_what_does_not_fit(env, step, message):
    with pytest.raises(ValueError, match=message):
        preprocess(env, [step])


def test_stacks_that_supersuit_puts_in_the_wrong_place():
    grey = ["color_reduction_v0:full"]
    with pytest.raises(ValueError, match="wrong places at stack_dim=0"):
        preprocess(Camera(), [*grey, "frame_stack_v1:2,stack_dim=0"])
    # The reason, so that a mended SuperSuit shows: its newest picture is not where it says.
    wrapped = supersuit.frame_stack_v1(preprocess(Camera(), grey), 2, 0)
    observations, _ = wrapped.reset()
    assert not observations["left"][-1].any()


def test_skipped_frames_shorten_an_episode():
    envs = make_vector_env("CartPole-v1", 1, preprocess=["frame_skip_v0:4"])
    assert envs.team_spec.episode_limit == 125
    envs.reset(seed=[0])
    assert envs.step(np.array([[0]]))[1][0] == 4.0  # a reward for each of four


def test_no_steps_need_no_supersuit(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "supersuit", None)
    make_vector_env("matrix_game_v0", 1)
    with pytest.raises(ImportError, match=r"smix-pz\[supersuit\]"):
        make_vector_env("matrix_game_v0", 1, preprocess=["flatten_v0"])


def test_native_forms_know_no_preprocessing():
    with pytest.raises(ValueError, match="neither preprocessing"):
        make_vector_env("matrix_game_v0", 1, preprocess=["dtype_v0:float32"], vectorization="native")


# Our environments inside SuperSuit ------------------------------------------------------------------------------


OURS = {
    "matrix_game_v0": lambda: matrix_game_v0.parallel_env(m=3),
    "masked_team_v0": lambda: supersuit.pad_action_space_v0(
        supersuit.pad_observations_v0(masked_team_v0.parallel_env(flat_obs=True))
    ),
    "smac_sim_v0": lambda: smac_sim_v0.parallel_env("3m", flat_obs=True),
}


@pytest.mark.parametrize("name", OURS)
def test_our_environments_under_supersuits_vector_wrappers(name):
    """Returns of random play agree with those of a plain loop over the same environment, seed and actions."""
    single = supersuit.black_death_v3(OURS[name]())
    agents = supersuit.pettingzoo_env_to_vec_env_v1(single)
    many = supersuit.concat_vec_envs_v1(agents, 3, num_cpus=0, base_class="gymnasium")
    n_agents = agents.num_envs
    plain = [supersuit.black_death_v3(OURS[name]()) for _ in range(3)]
    seen, _ = many.reset(seed=5)
    hand = [env.reset(seed=5 + index)[0] for index, env in enumerate(plain)]
    rng, over = np.random.default_rng(1), np.zeros(3, bool)
    for _ in range(200):
        for index, env in enumerate(plain):
            if not over[index]:
                rows = np.stack([hand[index][agent] for agent in env.possible_agents])
                np.testing.assert_array_equal(seen[index * n_agents : (index + 1) * n_agents], rows)
        actions = rng.integers(many.action_space.n, size=3 * n_agents)
        seen, rewards, _, _, _ = many.step(actions)
        for index, env in enumerate(plain):
            if over[index]:
                continue
            own = actions[index * n_agents : (index + 1) * n_agents]
            hand[index], paid, *_ = env.step(dict(zip(env.possible_agents, own.tolist(), strict=True)))
            np.testing.assert_allclose(
                rewards[index * n_agents : (index + 1) * n_agents], [paid[agent] for agent in env.possible_agents],
                rtol=1e-6,
            )  # fmt: skip
            over[index] = not env.agents
        if over.all():
            break
    assert over.all()
