"""Configuration: frozen dataclasses, the only home of defaults.

The field docstrings become the command's ``--help``. A key that does not exist raises and names the nearest.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

from smix_pz.labels import label
from smix_pz.names import check_name, nearest
from smix_pz.steps import step_text


@dataclass(frozen=True)
class Hyperparameters:
    """What an algorithm is trained with. Defaults are the paper's (section VI-B) or its authors' code."""

    gamma: float = 0.99
    """Discount factor."""
    optimizer: Literal["rmsprop", "adam"] = "rmsprop"
    """What steps the parameters; settings of the other one (``rms_*``, ``adam_*``) are refused."""
    learning_rate: float = 5e-4
    """The optimizer's step size."""
    rms_alpha: float | None = None
    """RMSprop's decay of the squared gradient; None: 0.99."""
    rms_eps: float | None = None
    """RMSprop: added to the root of the squared gradient; None: 1e-5."""
    adam_beta1: float | None = None
    """Adam's decay of the gradient; None: 0.9, PyTorch's default."""
    adam_beta2: float | None = None
    """Adam's decay of the squared gradient; None: 0.999, PyTorch's default."""
    adam_eps: float | None = None
    """Adam: added to the root of the squared gradient; None: 1e-8, PyTorch's default."""
    grad_clip: float = 10.0
    """Largest gradient norm of each run; longer gradients are scaled down to it."""
    batch_size: int = 32
    """Episodes in one gradient update from replay. COMA, and COMA-R's actor, learn from the whole newest group."""
    parallel_episodes: int = 4
    """Episodes collected at once by each run, before it learns; COMA's batch (pymarl's COMA has 8)."""
    updates_per_group: int = 1
    """Gradient updates after each such group; it changes sample efficiency, so it is recorded. COMA's actor: one."""
    buffer_size: int | None = None
    """Most recent episodes kept for replay; None: the algorithm's own (1500: SMIX, -R; 5000: baselines; COMA: none)."""
    target_update_episodes: int = 200
    """The target network is copied from the trained one every so many episodes."""
    estimator: str | None = None
    """Return estimator, by name (`smix-pz algorithms` lists them); None: the algorithm's own."""
    td_lambda: float | None = None
    """Lambda; None: 0.8. Only for estimators that have one."""
    n_step: int | None = None
    """Rewards before the bootstrap; None: 4. Only for the n-step estimator."""
    target_epsilon: float = 0.0
    """Share of uniformly random legal actions in the target policy, whose rest is greedy. Only for estimators that
    take expectations under it."""
    expectation: Literal["exact", "mean-field"] = "exact"
    """Expected values of a mixed team value, where target_epsilon is not 0: "exact" sums over all joint actions,
    "mean-field" mixes the agents' expectations (an approximation)."""
    double_q: bool = True
    """The target policy's greedy actions are the online network's (True) or the target network's (False)."""
    epsilon_start: float = 1.0
    """Exploration (epsilon-greedy) at the first step. COMA has its own, see ``coma_epsilon_start``."""
    epsilon_finish: float = 0.05
    """Exploration from ``epsilon_steps`` on."""
    epsilon_steps: int = 50_000
    """Environment steps over which exploration falls linearly."""
    agent_network: Literal["gru", "ff"] = "gru"
    """The agents' network: with a memory (the paper's GRU), or feed-forward, of the newest observation alone."""
    hidden_dim: int = 64
    """Width of the agent network."""
    image_encoder: Literal["auto", "cnn", "flat"] = "auto"
    """How agents read image observations: a convolutional network, or as flat rows; auto: a CNN from 12 x 12 on."""
    mixing_embed_dim: int = 32
    """Width of the mixing network."""
    hypernet_layers: int = 1
    """Layers of the mixing network's hypernetworks: 1, or 2 as in newer QMIX."""
    parameter_sharing: bool = True
    """One network for all agents, or one each."""
    qtran_embed_dim: int = 64
    """QTRAN: width of the joint value networks."""
    qtran_opt_weight: float = 1.0
    """QTRAN: weight of the loss at the greedy joint action."""
    qtran_nopt_weight: float = 0.1
    """QTRAN: weight of the loss at the taken joint action."""
    coma_critic_dim: int = 128
    """COMA: width of the critic's two hidden layers."""
    coma_critic_update: Literal["batch", "sequential"] = "batch"
    """COMA: an update of the critic is one gradient step for the whole batch, or one for each time, last to first."""
    coma_epsilon_start: float = 0.5
    """COMA: at the first step, the share of the policy that is spread evenly over legal actions, below its softmax."""
    coma_epsilon_finish: float = 0.01
    """COMA: that share from ``coma_epsilon_steps`` on."""
    coma_epsilon_steps: int = 100_000
    """COMA: environment steps over which it falls linearly."""

    def __post_init__(self) -> None:
        hints = typing.get_type_hints(type(self))
        for name, hint in hints.items():
            object.__setattr__(self, name, _coerce(name, getattr(self, name), hint))
        for name, test, wanted in _RANGES:
            value = getattr(self, name, None)
            if value is not None and not test(value):
                raise ValueError(f"{name} is {value!r}; it should be {wanted}")
        if self.buffer_size is not None and self.buffer_size < self.parallel_episodes:
            raise ValueError(
                f"buffer_size is {self.buffer_size}; it should hold at least one group, "
                f"parallel_episodes = {self.parallel_episodes}"
            )
        self.optimizer_settings()

    def optimizer_settings(self) -> dict[str, float]:
        """The optimizer's own settings by name, defaults where they are None.

        Raises:
            ValueError: a setting of the other optimizer is given.
        """
        for other, settings in OPTIMIZER_DEFAULTS.items():
            for name in settings:
                if other != self.optimizer and getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} is {getattr(self, name)!r}, but the optimizer is {self.optimizer}, which has no use "
                        f"for it; its own settings are {', '.join(OPTIMIZER_DEFAULTS[self.optimizer])}"
                    )
        given = {name: getattr(self, name) for name in OPTIMIZER_DEFAULTS[self.optimizer]}
        defaults = OPTIMIZER_DEFAULTS[self.optimizer]
        return {name: defaults[name] if value is None else value for name, value in given.items()}


# RMSprop: the paper's decay and its authors' eps. Adam: those of torch.optim.Adam.
OPTIMIZER_DEFAULTS: Mapping[str, Mapping[str, float]] = {
    "rmsprop": {"rms_alpha": 0.99, "rms_eps": 1e-5},
    "adam": {"adam_beta1": 0.9, "adam_beta2": 0.999, "adam_eps": 1e-8},
}


@dataclass(frozen=True)
class TrainConfig(Hyperparameters):
    """One training job: an algorithm on an environment with one or many seeds, trained as one program."""

    env: Any = "matrix_game_v0"
    """Environment: one of ours, a PettingZoo registry id, or module:callable. In Python also what these stand for."""
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the environment."""
    team_reward: Literal["mean", "sum", "first", "individual"] | None = None
    """How agents' unlike rewards become the team's; None: they have to be equal; "individual": each agent is trained
    on its own (iql)."""
    team_state: Literal["observations"] | None = None
    """The state that mixers read; None: the environment's own if it has one; observations: its agents', joined."""
    episode_limit: int | None = None
    """Steps after which an episode is truncated; None: the environment's own."""
    preprocess: tuple[str, ...] = ()
    """SuperSuit's wrappers, in order: NAME or NAME:KEY=VALUE,..., such as resize_v1:x_size=84,y_size=84."""
    algorithm: str = "smix"
    """A row of ALGORITHMS; `smix-pz algorithms` lists them."""
    seeds: tuple[int, ...] = (0,)
    """One independent run for each seed, stacked along the run axis."""
    steps: int = 100_000
    """Environment steps of each run."""
    eval_every: int = 20_000
    """Environment steps between evaluations."""
    eval_episodes: int = 24
    """Greedy, decentralised episodes in an evaluation."""
    absolute_episodes: int | None = None
    """Greedy episodes with each run's best policy so far, played when it has made its steps; None: none."""
    device: str = "cpu"
    """PyTorch device; "auto" takes a GPU if there is one."""
    threads: int = 1
    """PyTorch's CPU threads; a second one helps stacks of many runs, and only where a core is idle."""
    out: Path | None = None
    """Folder for records and policies; None: keep results in memory only."""
    checkpoint_every: float = 60.0
    """Seconds between checkpoints (only with ``out``); a killed job resumes from the last one."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay while a job runs; if one is damaged, the one before is used."""
    keep_final: float | None = None
    """GiB that the last checkpoint of a finished job may take, replay included; without it no more steps. None: a tenth
    of what the disk has free; 0: none is kept."""
    tensorboard: bool = False
    """Also write TensorBoard event files below ``out``."""
    track: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ()
    """Where evaluations go besides the record (only with ``out``); each is an optional package of its own."""
    plugins: tuple[str, ...] = ()
    """Modules or Python files to import first; they register algorithms, or hold environments."""
    progress: bool = True
    """Show progress: a live display on a terminal, plain lines elsewhere."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._unfold_env()
        if not self.seeds or len(set(self.seeds)) != len(self.seeds) or min(self.seeds) < 0:
            raise ValueError(f"seeds are {self.seeds!r}; they should be one or more different non-negative integers")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Build from plain values (YAML, JSON).

        Raises:
            ValueError: a key that is not a field (the nearest is named), or a value out of range.
        """
        return from_dict(cls, values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for records; an environment that is no text is there by its :func:`smix_pz.labels.label`."""
        return {**self.fields(), "env": self.env_name}

    def fields(self) -> dict[str, Any]:
        """The fields as they are, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}

    @property
    def env_name(self) -> str:
        """The environment's name, import path or, where it has neither, description."""
        return label(self.env)

    def _unfold_env(self) -> None:
        """A functools.partial becomes what it calls and its arguments, so that records hold both."""
        while isinstance(self.env, partial):
            inner = self.env
            try:
                given = inspect.signature(inner.func).bind_partial(*inner.args)
            except (TypeError, ValueError):
                return  # its values have no names
            names = inspect.signature(inner.func).parameters
            if any(names[name].kind is not inspect.Parameter.POSITIONAL_OR_KEYWORD for name in given.arguments):
                return
            object.__setattr__(self, "env", inner.func)
            object.__setattr__(self, "env_kwargs", {**given.arguments, **inner.keywords, **self.env_kwargs})


T = typing.TypeVar("T")


def from_dict(cls: type[T], values: Mapping[str, Any]) -> T:
    """Build a config dataclass from plain values; lists become tuples and strings paths where the field says so.

    Raises:
        ValueError: a key that is not a field; the nearest is named.
        TypeError: a value whose type does not fit the field.
    """
    hints = typing.get_type_hints(cls)
    known = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            raise ValueError(f"unknown setting {key!r}; {nearest(str(key), known)}")
    return cls(**{key: _coerce(key, value, hints[key]) for key, value in values.items()})


def _coerce(key: str, value: Any, hint: Any) -> Any:
    if hint is Any:
        return value
    options = typing.get_args(hint) if _is_union(hint) else (hint,)
    if key == "preprocess" and hint is str:
        value = step_text(value)  # a mapping, as in YAML
    if value is None:
        if type(None) in options:
            return None
        raise TypeError(f"{key} is None; expected {hint}")
    for option in options:
        origin = typing.get_origin(option) or option
        if origin is tuple and isinstance(value, (list, tuple, range)):
            item = typing.get_args(option)[0]
            return tuple(_coerce(key, element, item) for element in value)
        if origin is Literal:
            if value in typing.get_args(option):
                return value
        elif origin is Path and isinstance(value, (str, Path)):
            return Path(value)
        elif origin is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            return float(value)
        elif origin is Any or (origin in (int, str, bool, dict) and type(value) is origin):
            return value
    choices = [c for option in options if typing.get_origin(option) is Literal for c in typing.get_args(option)]
    if choices and isinstance(value, str):
        check_name(key, value, choices)
    raise TypeError(f"{key} is {value!r} ({type(value).__name__}); expected {_readable(hint)}")


def _readable(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _is_union(hint: Any) -> bool:
    return type(None) in typing.get_args(hint)


def _positive(x: float) -> bool:
    return x > 0


def _fraction(x: float) -> bool:
    return 0.0 <= x <= 1.0


def _below_one(x: float) -> bool:
    return 0.0 <= x < 1.0


_RANGES: tuple[tuple[str, typing.Callable[[Any], bool], str], ...] = (
    ("gamma", _fraction, "between 0 and 1"),
    ("td_lambda", _fraction, "between 0 (one step) and 1 (Monte-Carlo)"),
    ("target_epsilon", _fraction, "between 0 (greedy) and 1 (uniform)"),
    ("epsilon_start", _fraction, "between 0 and 1"),
    ("epsilon_finish", _fraction, "between 0 and 1"),
    ("coma_epsilon_start", _fraction, "between 0 and 1"),
    ("coma_epsilon_finish", _fraction, "between 0 and 1"),
    ("rms_alpha", _fraction, "between 0 and 1"),
    ("adam_beta1", _below_one, "from 0 to below 1"),
    ("adam_beta2", _below_one, "from 0 to below 1"),
    *(
        (name, _positive, "greater than 0")
        for name in (
            "learning_rate",
            "rms_eps",
            "adam_eps",
            "grad_clip",
            "batch_size",
            "parallel_episodes",
            "updates_per_group",
            "buffer_size",
            "target_update_episodes",
            "n_step",
            "steps",
            "eval_every",
            "eval_episodes",
            "absolute_episodes",
            "keep_checkpoints",
            "episode_limit",
            "threads",
            "epsilon_steps",
            "hidden_dim",
            "mixing_embed_dim",
            "qtran_embed_dim",
            "coma_critic_dim",
            "coma_epsilon_steps",
        )
    ),
    ("checkpoint_every", lambda x: x >= 0, "0 or more seconds"),
    ("keep_final", lambda x: x >= 0, "0 (nothing is kept) or more GiB"),
    ("hypernet_layers", lambda x: x in (1, 2), "1 or 2"),
)
