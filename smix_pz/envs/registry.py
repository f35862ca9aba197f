"""Our environments by name, and how a name, module, factory or object that a user hands in becomes a factory."""

from __future__ import annotations

import copy
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType, ModuleType
from typing import Any

import gymnasium
import pettingzoo
from pettingzoo import AECEnv, ParallelEnv
from pettingzoo.env_registry.exceptions import PettingZooRegistryError
from pettingzoo.env_registry.helpers import find_spec

from smix_pz.envs.checks import check_keywords, nearest
from smix_pz.envs.foreign import canonical
from smix_pz.envs.vector import NativeVectorEnv
from smix_pz.labels import is_found_by_name, label

NAMESPACE = "smix_pz"


@dataclass(frozen=True)
class EnvEntry:
    """One environment of this package.

    Attributes:
        name: PettingZoo's spelling, such as matrix_game_v0.
        summary: what it is, in a line.
        module_name: where its `env`, `parallel_env` and `vector_env` are; imported when first needed.
        in_series: arguments under which it plays many seeded episodes in a row, where its defaults would be slow.
        at_once: how many of it a machine bears at once, where that is few; evaluations play in turns of so many.
    """

    name: str
    summary: str
    module_name: str
    in_series: Mapping[str, Any] = field(default_factory=dict)
    at_once: int | None = None

    @property
    def env_id(self) -> str:
        """The id in PettingZoo's and Gymnasium's registries, such as smix_pz/matrix_game-v0."""
        return f"{NAMESPACE}/{canonical(self.name)}"

    @property
    def module(self) -> ModuleType:
        """The PettingZoo module."""
        return importlib.import_module(self.module_name)

    @property
    def native(self) -> Callable[..., NativeVectorEnv] | None:
        """The factory of its native vector form, if it has one."""
        return getattr(self.module, "vector_env", None)

    @property
    def arguments(self) -> tuple[str, ...]:
        """Names of the arguments that the environment takes."""
        return tuple(inspect.signature(self.module.parallel_env).parameters)


def _entry(name: str, summary: str, at_once: int | None = None, **in_series: Any) -> tuple[str, EnvEntry]:
    return name, EnvEntry(name, summary, f"smix_pz.envs.{name}", MappingProxyType(in_series), at_once)


ENVS: Mapping[str, EnvEntry] = MappingProxyType(
    dict(
        (
            _entry("matrix_game_v0", "m-step cooperative matrix game: a long branch that pays at its end"),
            _entry("payoff_game_v0", "one step, any payoff table: what a mixer can represent"),
            _entry("two_step_game_v0", "QMIX's two-step game: a safe 7 against a coordinated 8"),
            _entry("masked_team_v0", "masks, a death, a late agent, unlike spaces, early truncation; values are known"),
            _entry("smac_sim_v0", "SMAC's 23 maps on an embedded engine: no StarCraft needed"),
            # A new seed is a new StarCraft process: collectors seed every episode, but only the first seed counts.
            _entry("smac_v0", "SMAC itself: StarCraft II through the smac package", at_once=4, reseed="once"),
        )
    )
)


def register_all() -> None:
    """Register our environments with PettingZoo (parallel and aec) and Gymnasium; again does nothing."""
    for entry in ENVS.values():
        forms = (("parallel", pettingzoo.parallel_registry), ("aec", pettingzoo.aec_registry))
        for form, registry in forms:
            if entry.env_id not in registry:
                attribute = "parallel_env" if form == "parallel" else "env"
                pettingzoo.register(form, entry.env_id, entry_point=f"{entry.module_name}:{attribute}")  # type: ignore
        if entry.env_id not in gymnasium.registry:
            gymnasium.register(
                entry.env_id,
                entry_point="smix_pz.envs.make:make_team_env",
                vector_entry_point="smix_pz.envs.make:make_native_env",
                kwargs={"env": entry.name},
            )


@dataclass(frozen=True)
class Source:
    """Where environments come from.

    Attributes:
        factory: makes one, from keywords.
        env_id: the name to record, or None for the environment's own.
        signature: the callable whose parameters say which keywords exist.
        entry: our own environment, if it is one.
        single: an object rather than a factory: there is one, and more only by `copied`.
    """

    factory: Callable[..., Any]
    env_id: str | None
    signature: Callable[..., Any]
    entry: EnvEntry | None = None
    single: bool = False

    def check(self, keywords: Mapping[str, Any]) -> None:
        """Raise TypeError if the environment takes no argument of one of these names."""
        name = self.env_id or str(getattr(self.factory, "__name__", "the environment"))
        check_keywords(name, self.signature, keywords)

    def copied(self) -> Source:
        """The same, made from copies of the object as it is now; the object itself is left alone from here on.

        Raises:
            ValueError: an object that copy.deepcopy cannot copy.
        """
        if not self.single:
            return self
        pattern = _copy(self.factory(), self.env_id)
        return replace(self, factory=lambda: _copy(pattern, self.env_id), single=False)


def _copy(env: Any, name: str | None) -> Any:
    try:
        return copy.deepcopy(env)
    except Exception as error:
        raise ValueError(
            f"{name} is one object, several are needed, and copy.deepcopy cannot copy it ({type(error).__name__}: "
            f"{error}). Pass a factory in its place: its class, or a lambda that makes it."
        ) from error


def find_entry(name: str) -> EnvEntry | None:
    """Our environment of that name or id, in any spelling; None if there is none."""
    short = canonical(name).removeprefix(f"{NAMESPACE}/")
    return next((entry for entry in ENVS.values() if canonical(entry.name) == short), None)


def series_arguments(env: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """`keywords`, over the arguments under which our environment of that name plays many episodes in a row."""
    entry = find_entry(env) if isinstance(env, str) else None
    return {**({} if entry is None else entry.in_series), **keywords}


def turns(env: Any, episodes: int) -> int:
    """Of how many environments at once an evaluation of `episodes` episodes should be made."""
    entry = find_entry(env) if isinstance(env, str) else None
    return episodes if entry is None or entry.at_once is None else min(episodes, entry.at_once)


def shared_arguments(env: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `keywords`, which were meant for another environment, that `env` takes too."""
    try:
        parameters = inspect.signature(find_source(env).signature).parameters
    except (TypeError, ValueError):
        return {}
    return {name: value for name, value in keywords.items() if name in parameters}


def find_source(env: Any) -> Source:
    """Turn what a user means by an environment into a `Source`.

    env: a `Source`, one of our names or ids, an id of PettingZoo's or Gymnasium's registry (also "package:id"), the
    name of a module with a `parallel_env`, "module:callable", such a module, a factory, or an environment object.

    Raises:
        ValueError: a name that stands for nothing; the nearest known one is named.
        TypeError: something else altogether.
    """
    if isinstance(env, Source):
        return env
    if isinstance(env, str):
        return _from_string(env)
    if isinstance(env, ModuleType):
        return _from_module(env, env.__name__)
    if isinstance(env, (ParallelEnv, AECEnv, gymnasium.Env)):
        return Source(lambda: env, label(env), lambda: None, single=True)
    if callable(env):
        return Source(env, label(env), env)
    raise TypeError(
        f"env must be a name, a module with a parallel_env, a factory or a ParallelEnv, got {env!r}. "
        f"Names: {', '.join(ENVS)}."
    )


def _from_string(name: str) -> Source:
    if not is_found_by_name(name):
        raise ValueError(
            f"{name} was handed over in Python and has no import path, so it cannot be found by name: hand it over "
            "again, as in evaluate(policy, env=factory), or put it into a module and name that."
        )
    entry = find_entry(name)
    if entry is not None:
        factory = entry.module.parallel_env
        return Source(factory, entry.env_id, factory, entry)
    if ":" in name:
        module_name, _, attribute = name.partition(":")
        module = _import(module_name, name)
        if not hasattr(module, attribute.split(".")[0]) and attribute in gymnasium.registry:
            return _from_gymnasium(attribute)  # Gymnasium's own notation: the import has registered it
        return _from_attribute(name, module, attribute)
    try:
        spec = find_spec(pettingzoo.parallel_registry, name)
    except PettingZooRegistryError:
        if canonical(name) in pettingzoo.aec_registry:
            turn_based = find_spec(pettingzoo.aec_registry, name)
            return Source(turn_based.make, turn_based.id, turn_based.make)
        if name in gymnasium.registry:
            return _from_gymnasium(name)
        return _from_module(_import(name, name), name)
    entry_point = spec.entry_point
    signature = _signature(*_split(entry_point)) if isinstance(entry_point, str) else entry_point
    return Source(spec.make, spec.id, signature or spec.make)


def _from_gymnasium(name: str) -> Source:
    return Source(partial(gymnasium.make, name), name, partial(gymnasium.make, name))


def _from_module(module: ModuleType, name: str) -> Source:
    if not hasattr(module, "parallel_env"):
        raise ValueError(
            f"module {name!r} has no parallel_env: it is no PettingZoo environment with agents that act at once."
        )
    return _from_attribute(name, module, "parallel_env")


def _from_attribute(name: str, module: ModuleType, attribute: str) -> Source:
    factory: Any = module
    for part in attribute.split("."):
        if not hasattr(factory, part):
            public = [known for known in dir(factory) if not known.startswith("_")]
            raise ValueError(
                f"{name!r}: {getattr(factory, '__name__', factory)} has no {part!r}{nearest(part, public)}"
            )
        factory = getattr(factory, part)
    if not callable(factory):
        raise TypeError(f"{name!r} is {type(factory).__name__}, expected a callable that makes a ParallelEnv.")
    return Source(factory, name, _signature(module, attribute) or factory)


def _split(entry_point: str) -> tuple[ModuleType, str]:
    module_name, _, attribute = entry_point.partition(":")
    return importlib.import_module(module_name), attribute


def _signature(module: ModuleType, attribute: str) -> Callable[..., Any] | None:
    """The callable that names the keywords: a parallel_env may take any, where its module's raw_env says which."""
    if attribute == "parallel_env" and hasattr(module, "raw_env"):
        return module.raw_env
    return getattr(module, attribute, None)


def _import(module_name: str, asked: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if module_name != missing and not module_name.startswith(f"{missing}."):
            raise  # the module is there, but something that it needs is not
    except (ImportError, ValueError, TypeError):
        pass  # not even the shape of a module's name
    hint = nearest(asked, _known_names(module_name))
    raise ValueError(f"environment {asked!r} is not known{hint} Environments of this package: {', '.join(ENVS)}.")


def _known_names(module_name: str) -> list[str]:
    names = [*ENVS, *(entry.env_id for entry in ENVS.values()), *pettingzoo.parallel_registry]
    package_name = module_name.rpartition(".")[0] or module_name
    try:
        package = importlib.import_module(package_name)
    except Exception:
        return names
    siblings = pkgutil.iter_modules(getattr(package, "__path__", []))
    return names + [f"{package_name}.{module.name}" for module in siblings if not module.name.startswith("_")]
