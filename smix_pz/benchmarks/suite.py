"""Studies: a YAML file says what to run; this module plans the jobs, skips what is done, and names what is missing.

A study is a grid of tasks (environments) and curves (algorithms, each with its own settings), every cell with its runs.
A job is a stack of seeds of one cell, trained as one program. Every run has its own record, so a killed study
goes on where it stopped: finished runs are not repeated, a stack with a checkpoint continues from it. A study that is
asked for more runs adds stacks, one that is asked for more steps extends those it has.

Values come in layers, each over the one before: the study's file, the chosen preset, its quick version, the command.
The saved study holds the result of all of them, so a folder alone says what was run.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from smix_pz import envs
from smix_pz.algorithms import ALGORITHMS, resolve
from smix_pz.baselines import PLAYER_NAMES
from smix_pz.config import TrainConfig, from_dict
from smix_pz.files import write_text
from smix_pz.jobs import is_done, job_folder, out_of, read_json, stacks_in, write_json
from smix_pz.names import check_name
from smix_pz.plugins import is_file, load_plugin
from smix_pz.records import RunRecord, plain
from smix_pz.run_files import can_go_on, check_same_settings, conclude, has_finished, read_if_any, record_path

EVALUATION_METRICS = ("eval/return", "eval/win_rate", "eval/episode_length")
ENGINES = {"smac-sim": "smac_sim_v0", "smac": "smac_v0"}
_MERGED = ("settings", "variants", "tasks", "env_kwargs", "panels", "presets")  # layers add to these, key by key
_FILE_ONLY = ("presets", "quick", "extends")  # of a study's file; a resolved study has none of them
_FOLDER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.=-]*")


@dataclass(frozen=True)
class Expressivity:
    """Which payoff tables each algorithm can represent, learned under uniformly random play."""

    env: str = "payoff_game_v0"
    payoffs: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ()
    runs: int = 3
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """One environment of a study; ``name`` is "" where the study has no other."""

    name: str
    env: str
    env_kwargs: dict[str, Any]
    settings: dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """One curve of a study: a row of ``ALGORITHMS`` with settings of its own; ``text`` is what people read."""

    name: str
    algorithm: str
    settings: dict[str, Any]
    text: str


@dataclass(frozen=True)
class Panel:
    """Curves that one panel of the figure shows, variant -> legend; ``title`` says what they differ in."""

    name: str
    title: str
    curves: dict[str, str]


@dataclass(frozen=True)
class Study:
    """One study, resolved; its YAML file may also hold ``presets``, ``quick`` and ``extends``, see ``load_study``.

    Attributes:
        env, env_kwargs: the environment, or what the tasks share.
        maps: SMAC maps, one task each; ``tasks``: further ones, name -> env, env_kwargs and settings of its own.
        algorithms, runs, steps, eval_every, eval_episodes: the grid; ``algorithms`` are names of rows or variants.
        absolute_episodes: greedy episodes with each run's best policy, after training; None: none.
        variants: name -> ``algorithm`` (a row), ``text`` (for people), and settings of its own.
        panels: name -> ``title`` and ``curves`` (variant -> legend): what the figure shows side by side for each task.
        preset: the chosen key of the file's ``presets``; its values are in the other fields already.
        scale: "full", or "quick" for the study's small version.
        settings: further settings of every job.
        plugins: modules or Python files that register algorithms and environments, imported first.
        reference_returns: label -> expression in the environment's arguments (whole numbers, names, + and -).
        metrics: which metrics get curves; the first one is the study's measure in tables and claims.
        baselines: scripted players that play the same environments, see ``smix_pz.baselines``.
        baseline_episodes: how many episodes each of them plays.
        paper_table: which table of the paper's win rates stands beside these results ("III", "IV"); "" none.
        paper_steps: environment steps of the paper's runs; 0 where it does not say.
        claims: what the paper says; see ``smix_pz.benchmarks.claims``.
        first_seed: seeds are ``first_seed`` to ``first_seed + runs - 1``.
        command: the command line that ran it last, for the report.
    """

    name: str
    title: str
    env: str
    algorithms: tuple[str, ...]
    env_kwargs: dict[str, Any] = field(default_factory=dict)
    maps: tuple[str, ...] = ()
    tasks: dict[str, Any] = field(default_factory=dict)
    variants: dict[str, Any] = field(default_factory=dict)
    panels: dict[str, Any] = field(default_factory=dict)
    runs: int = 20
    steps: int = 100_000
    eval_every: int = 1000
    eval_episodes: int = 24
    absolute_episodes: int | None = None
    preset: str = "paper"
    scale: str = "full"
    settings: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    reference_returns: dict[str, Any] = field(default_factory=dict)
    metrics: tuple[str, ...] = ("eval/return",)
    baselines: tuple[str, ...] = ()
    baseline_episodes: int = 320
    paper_table: str = ""
    paper_steps: int = 0
    claims: tuple[dict[str, Any], ...] = ()
    expressivity: dict[str, Any] = field(default_factory=dict)
    first_seed: int = 0
    command: str = ""

    def __post_init__(self) -> None:
        if self.runs < 1:
            raise ValueError(f"runs is {self.runs}; a study needs 1 or more")
        if not self.algorithms:
            raise ValueError("algorithms is empty; a study needs one or more")
        if not self.metrics:
            raise ValueError("metrics is empty; a study needs one or more, such as eval/return")
        if self.baseline_episodes < 1:
            raise ValueError(f"baseline_episodes is {self.baseline_episodes}; it should be 1 or more")
        check_name("scale", self.scale, ("full", "quick"))
        for metric in self.metrics:
            check_name("metric", metric, EVALUATION_METRICS)
        for player in self.baselines:
            check_name("baseline", player, PLAYER_NAMES)
        for name in (*self.maps, *self.tasks, *self.variants, *self.panels):
            if not _FOLDER_NAME.fullmatch(name):
                raise ValueError(f"{name!r} becomes a folder's name; use letters, digits and '_.=-'")
        if repeated := sorted({name for name in self.maps if name in self.tasks or self.maps.count(name) > 1}):
            raise ValueError(f"{repeated[0]!r} is the name of two tasks; each needs a name of its own")
        if repeated := sorted({name for name in self.algorithms if self.algorithms.count(name) > 1}):
            raise ValueError(f"algorithms names {repeated[0]!r} twice")

    @property
    def seeds(self) -> tuple[int, ...]:
        """The planned seeds, the same for every algorithm."""
        return tuple(range(self.first_seed, self.first_seed + self.runs))

    def references(self) -> dict[str, float]:
        """Reference returns as numbers."""
        return {label: _sum_of(str(text), self.env_kwargs) for label, text in self.reference_returns.items()}

    def task_list(self) -> list[Task]:
        """The environments: maps first, then tasks; without either, the study's one environment under the name ""."""
        found = [Task(name, self.env, {**self.env_kwargs, "map_name": name}, {}) for name in self.maps]
        for name, entry in self.tasks.items():
            own = dict(entry or {})
            env = own.pop("env", self.env)
            shared = self.env_kwargs if env == self.env else {}
            found.append(Task(name, env, {**shared, **own.pop("env_kwargs", {})}, own))
        return found or [Task("", self.env, self.env_kwargs, {})]

    def variant_list(self) -> list[Variant]:
        """The curves that are run, in the order of ``algorithms``.

        Raises:
            ValueError: a name that is neither a row nor a variant; the nearest is named.
        """
        found = []
        for name in self.algorithms:
            check_name("algorithm", name, [*ALGORITHMS, *(key for key in self.variants if key not in ALGORITHMS)])
            own = dict(self.variants.get(name) or {})
            row, text = own.pop("algorithm", name), own.pop("text", PAPER_NAMES.get(name, name))
            found.append(Variant(name, row, own, text))
        return found

    def panel_list(self) -> list[Panel]:
        """The panels that have curves among ``algorithms``; without any, one with all of them."""
        variants = {variant.name: variant.text for variant in self.variant_list()}
        found = []
        for name, entry in self.panels.items():
            curves = {key: str(text) for key, text in entry["curves"].items() if key in variants}
            if curves:
                found.append(Panel(name, str(entry.get("title", name)), curves))
        shown = {key for panel in found for key in panel.curves}
        if rest := {key: text for key, text in variants.items() if key not in shown}:
            found.append(Panel("others" if found else "all", "others" if found else "", rest))
        return found


# The paper's names of the rows.
PAPER_NAMES = {
    "smix": "SMIX(λ)",
    "qmix": "QMIX",
    "coma-r": "COMA-R",
    "coma": "COMA",
    "vdn-r": "VDN-R",
    "vdn": "VDN",
    "iql-r": "IQL-R",
    "iql": "IQL",
    "qtran-r": "QTRAN-R",
    "qtran": "QTRAN",
    "smix-noabs": "SMIX(λ)-noabs",
    "qmix-noabs": "QMIX-noabs",
    "smix-n": "SMIX(n)",
}


@dataclass(frozen=True)
class Job:
    """A stack of seeds to train; ``config.out`` takes the records, ``payoff`` is set on the expressivity page.

    Attributes:
        task: name of the study's task, "" where it has one only.
        variant: name of the curve; an algorithm's, if the study's file does not say more.
        wanted: which of its seeds the study asks for; None: all. A stack stays as it was begun, also where a later call
            asks for fewer runs.
        name: the label, where it was read from a list of jobs.
    """

    config: TrainConfig
    payoff: str | None = None
    task: str = ""
    variant: str = ""
    wanted: tuple[int, ...] | None = None
    name: str = ""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the study asks for."""
        return self.config.seeds if self.wanted is None else self.wanted

    @property
    def label(self) -> str:
        """Short text for people."""
        if self.name:
            return self.name
        name = self.variant or self.config.algorithm
        where = self.payoff or self.task
        return f"{name} on {where}" if where else name


def study_names() -> list[str]:
    """Studies that come with the package."""
    return sorted(
        p.name[:-5] for p in resources.files("smix_pz.benchmarks.studies").iterdir() if p.name[-5:] == ".yaml"
    )


def load_study(
    name_or_path: str,
    overrides: Mapping[str, Any] | None = None,
    *,
    quick: bool = False,
    plugins: Sequence[str] = (),
) -> Study:
    """Read a study that comes with the package, or a YAML file, and resolve it.

    Besides the fields of ``Study`` a file may hold ``presets`` (name -> values laid over the file's; keys that are no
    field of a study are settings of its jobs), ``quick`` (values of the small version, laid over the preset's) and
    ``extends`` (the study that this file changes: a name, or a path relative to the file).

    Args:
        overrides: values laid over everything else; ``preset`` among them chooses the preset.
        quick: the study's small version.
        plugins: modules and Python files to import first, besides those that the file names.

    Raises:
        ValueError: no such study, preset or key (the nearest is named), a study without a quick version, or a value
            out of range.
    """
    overrides = dict(overrides or {})
    values = _read_study(name_or_path)
    presets, small = values.pop("presets", {}), values.pop("quick", None)
    if "preset" in overrides:
        values["preset"] = overrides.pop("preset")
    if presets:
        chosen = values.setdefault("preset", next(iter(presets)))
        check_name("preset", chosen, presets)
        values = _layer(values, presets[chosen] or {})
    elif values.get("preset") != _read_study(name_or_path).get("preset"):
        raise ValueError(f"{values['name']} has no presets, so preset {values['preset']!r} cannot be chosen")
    if quick:
        if small is None:
            raise ValueError(f"{values['name']} has no quick version; --runs and --steps make it smaller")
        values = {**_layer(values, small), "scale": "quick"}
    for key in overrides:
        if key not in _STUDY_FIELDS:
            check_name("setting of a study", key, _STUDY_FIELDS)
    values = _layer(values, overrides)
    more = [str(Path(plugin).resolve()) if is_file(plugin) else plugin for plugin in plugins]
    values["plugins"] = list(dict.fromkeys([*values.get("plugins", ()), *more]))
    for plugin in values["plugins"]:
        load_plugin(plugin)
    if "env" in overrides and values.get("env") in ENGINES.values():
        _check_engine(name_or_path)
    if "maps" in overrides and not _read_study(name_or_path).get("maps") and values.get("env") not in ENGINES.values():
        raise ValueError(f"{values['name']} is played on {values['env']}, which has no maps")
    return from_dict(Study, values)


def _check_engine(name_or_path: str) -> None:
    own = study_default(name_or_path, "env")
    if own not in ENGINES.values():
        raise ValueError(f"the study is played on {own}; another engine is for SMAC's maps")


def study_default(name_or_path: str, key: str) -> Any:
    """What a study's file says of one key, without preset, quick version or overrides; its default if nothing."""
    values = _read_study(name_or_path)
    if key == "preset" and "preset" not in values:
        return next(iter(values.get("presets", {})), "paper")
    return values.get(key, next(f.default for f in dataclasses.fields(Study) if f.name == key))


def study_presets(name_or_path: str) -> dict[str, dict[str, Any]]:
    """The presets of a study's file, name -> values."""
    return {name: dict(values or {}) for name, values in _read_study(name_or_path).get("presets", {}).items()}


_STUDY_FIELDS = tuple(field.name for field in dataclasses.fields(Study))


def _read_study(name_or_path: str) -> dict[str, Any]:
    """The file's values, those of the study that it extends below them; plugins' files as full paths."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"no study file at {path}")
        text = path.read_text(encoding="utf-8")
    else:
        check_name("study", name_or_path, study_names())
        text = resources.files("smix_pz.benchmarks.studies").joinpath(f"{name_or_path}.yaml").read_text("utf-8")
    values = yaml.safe_load(text)
    if not isinstance(values, dict):
        raise ValueError(f"{name_or_path} should hold a mapping of settings")
    known = (*_STUDY_FIELDS, *_FILE_ONLY)
    for key in values:
        check_name("setting", key, known)
    if "plugins" in values:
        values["plugins"] = [str((path.parent / p).resolve()) if is_file(p) else p for p in values["plugins"]]
    base = values.pop("extends", None)
    if base is None:
        return values
    below = path.parent / str(base)
    return _layer(_read_study(str(below) if below.suffix in (".yaml", ".yml") else str(base)), values)


def _layer(values: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over others: fields of a study replace or, where they are mappings of names, join what is there."""
    made = dict(values)
    for key, value in over.items():
        if key not in (*_STUDY_FIELDS, *_FILE_ONLY):
            made["settings"] = {**made.get("settings", {}), key: value}
        elif key in _MERGED and value and isinstance(made.get(key), Mapping):
            made[key] = {**made[key], **value}
        else:
            made[key] = value
    return made


def save_study(study: Study, out: Path) -> Study:
    """Write the resolved study beside its records, so that a report can be made from the folder alone.

    Files of plugins are copied into the folder too, and the study returned uses the copies.

    Raises:
        ValueError: the folder holds another version of a plugin: its runs and new ones would not be of one method.
    """
    study = dataclasses.replace(study, plugins=tuple(_keep_plugin(plugin, out) for plugin in study.plugins))
    values = json.loads(json.dumps(dataclasses.asdict(study)))
    values["plugins"] = [f"plugins/{Path(p).name}" if is_file(p) else p for p in study.plugins]
    write_text(out / "study.yaml", yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    return study


def _keep_plugin(plugin: str, out: Path) -> str:
    if not is_file(plugin):
        return plugin
    text, copy = Path(plugin).read_text(encoding="utf-8"), out / "plugins" / Path(plugin).name
    if copy.is_file() and copy.read_text(encoding="utf-8") != text:
        raise ValueError(f"{plugin} is not the file that {out} was begun with; choose another out")
    if not copy.is_file():
        write_text(copy, text)
    return str(copy.resolve())


def plan(study: Study, out: Path, *, stack: int = 20) -> list[Job]:
    """Every job of a study, checked: all algorithms, settings and environments are tried before any work starts.

    Args:
        out: the study's folder; records go below ``out/records``.
        stack: most seeds trained as one program.

    Raises:
        ValueError, TypeError: bad settings; the message names the value and what was expected.
    """
    if stack < 1:
        raise ValueError(f"stack is {stack}; it should be 1 or more")
    shared = {
        "steps": study.steps,
        "eval_every": study.eval_every,
        "eval_episodes": study.eval_episodes,
        "absolute_episodes": study.absolute_episodes,
        "plugins": study.plugins,
        **study.settings,
    }
    jobs = [
        Job(
            TrainConfig.from_dict(
                {
                    **shared,
                    "env": task.env,
                    "env_kwargs": task.env_kwargs,
                    **task.settings,
                    **variant.settings,
                    "algorithm": variant.algorithm,
                    "seeds": study.seeds,
                    "out": out / "records" / task.name / variant.name,
                }
            ),
            task=task.name,
            variant=variant.name,
        )
        for task in study.task_list()
        for variant in study.variant_list()
    ]
    jobs = [part for job in jobs for part in in_stacks(job, stack)]
    if study.expressivity:
        jobs += _expressivity_jobs(from_dict(Expressivity, study.expressivity), out)
    for job in jobs:
        resolve(job.config.algorithm, job.config)
    for config in {(job.config.env, str(job.config.env_kwargs)): job.config for job in jobs}.values():
        view: dict[str, Any] = {
            "reward": config.team_reward,
            "episode_limit": config.episode_limit,
            "state": config.team_state,
            "preprocess": config.preprocess,
        }
        envs.make_vector_env(config.env, 1, **view, **config.env_kwargs).close()
    return [dataclasses.replace(job, config=dataclasses.replace(job.config, progress=False)) for job in jobs]


def in_stacks(job: Job, stack: int) -> list[Job]:
    """A cell's seeds as jobs: the stacks that were begun in its folder stay, new seeds make stacks of this size.

    So a study that is asked for more runs trains the new ones only, and a stack that was stopped goes on whole.
    """
    wanted = list(job.config.seeds)
    parts: list[Job] = []
    for seeds in stacks_in(out_of(job.config)):
        ours = tuple(seed for seed in seeds if seed in wanted)
        # Of two stacks that share a seed the first has it.
        if ours and not any(set(seeds) & set(part.config.seeds) for part in parts):
            parts.append(dataclasses.replace(job, config=dataclasses.replace(job.config, seeds=seeds), wanted=ours))
            wanted = [seed for seed in wanted if seed not in ours]
    new = [dataclasses.replace(job, config=dataclasses.replace(job.config, seeds=s)) for s in _chunks(wanted, stack)]
    return parts + new


def remaining(jobs: Sequence[Job]) -> list[Job]:
    """The jobs that still have something to do, without their finished runs.

    A stack that was begun stays whole: it knows which of its runs are finished. Done-markers that a kill has prevented
    are set here.

    Raises:
        ValueError: the folder holds runs that were made with other settings, or more steps, or with fewer and without
            the checkpoint to go on from.
    """
    left = []
    for job in jobs:
        done = {record.run["seed"] for record in records_of(job) if record.finished}
        begun = (job_folder(job.config) / "job.json").is_file()
        if all(seed in done for seed in job.seeds):
            if begun and set(job.config.seeds) == set(job.seeds) and not is_done(job.config):
                conclude(job.config)
            continue
        if not begun:
            seeds = tuple(seed for seed in job.config.seeds if seed not in done)
            job = dataclasses.replace(job, config=dataclasses.replace(job.config, seeds=seeds))
        left.append(job)
    stuck = [job for job in left if not can_go_on(job.config)]
    if stuck:
        where = ", ".join(f"{job.label} ({job.config.out})" for job in stuck)
        raise ValueError(
            f"{len(stuck)} of {len(jobs)} jobs cannot be extended to {stuck[0].config.steps:,} steps, because their "
            f"last checkpoints were not kept (see keep_final): {where}; move these folders away to train them from "
            "the start, or choose another out"
        )
    return left


def records_of(job: Job) -> list[RunRecord]:
    """The records that a job's runs have so far; one of fewer steps than the job asks for counts as unfinished.

    Raises:
        ValueError: a record was made with other settings; nothing is ever overwritten silently.
    """
    found = (read_if_any(record_path(job.config, seed)) for seed in job.seeds)
    records = [record for record in found if record is not None]
    for record in records:
        check_same_settings(record, job.config)
    return [r if has_finished(r, job.config) else dataclasses.replace(r, finished=False) for r in records]


def write_plan(jobs: Sequence[Job], out: Path) -> Path:
    """Write ``jobs.json``, the study's list of jobs, by which one of them can be run from the folder alone.

    Jobs are in the order of the plan, and their folders relative to ``out``.
    """
    entries = []
    for job in jobs:
        plugins = [os.path.relpath(p, out) if is_file(p) else p for p in job.config.plugins]
        config = plain({**job.config.to_dict(), "out": os.path.relpath(out_of(job.config), out), "plugins": plugins})
        entries.append({"label": job.label, "folder": os.path.relpath(job_folder(job.config), out), "config": config})
    path = out / "jobs.json"
    write_json(path, {"jobs": entries})
    return path


def read_plan(out: Path) -> list[Job]:
    """The jobs of ``jobs.json``, with folders below ``out``.

    Raises:
        ValueError: there is no such list, or it is not one.
    """
    plan_of = read_json(out / "jobs.json")
    if plan_of is None:
        raise ValueError(f"{out} holds no jobs.json; it is written when a study starts")
    jobs = []
    for entry in plan_of["jobs"]:
        plugins = [str(out / p) if is_file(p) else p for p in entry["config"]["plugins"]]
        config = {**entry["config"], "out": out / entry["config"]["out"], "plugins": plugins}
        jobs.append(Job(TrainConfig.from_dict(config), name=entry["label"]))
    return jobs


def _expressivity_jobs(page: Expressivity, out: Path) -> list[Job]:
    return [
        Job(
            TrainConfig.from_dict(
                {
                    **page.settings,
                    "env": page.env,
                    "env_kwargs": {"payoff": payoff},
                    "algorithm": name,
                    "seeds": tuple(range(page.runs)),
                    "out": out / "records" / "expressivity" / payoff / name,
                }
            ),
            payoff,
        )
        for payoff in page.payoffs
        for name in page.algorithms
    ]


def _chunks(seeds: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(seeds[start : start + size]) for start in range(0, len(seeds), size)]


def _sum_of(text: str, names: Mapping[str, Any]) -> float:
    """The value of a sum such as "m + 3"; no other arithmetic is understood."""
    total, sign = 0.0, 1.0
    for word in text.replace("+", " + ").replace("-", " - ").split():
        if word in "+-":
            sign = 1.0 if word == "+" else -1.0
        elif word in names:
            total += sign * float(names[word])
        else:
            try:
                total += sign * float(word)
            except ValueError:
                raise ValueError(f"{text!r} is no sum of numbers and {sorted(names)}") from None
    return total
