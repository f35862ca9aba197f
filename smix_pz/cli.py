"""The command ``smix-pz``: see ``main`` for what it can do."""

from __future__ import annotations

import dataclasses
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
import yaml
from rich.console import Console
from rich.table import Table

from smix_pz.config import TrainConfig

_REGISTRY = tyro.constructors.ConstructorRegistry()


@_REGISTRY.primitive_rule
def _key_value(info: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """Environment arguments on the command line: --env-kwargs m=5 payoff=qtran; values are read as YAML."""
    if info.type != dict[str, Any]:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="[KEY=VALUE ...]",
        instance_from_str=_parse_pairs,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{key}={item}" for key, item in value.items()],
    )


def _parse_pairs(words: Sequence[str]) -> dict[str, Any]:
    pairs = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ValueError(f"{word!r} is no KEY=VALUE pair")
        pairs[key] = yaml.safe_load(value)
    return pairs


def _train(config: TrainConfig, /) -> None:
    """Train an algorithm on an environment; `--config FILE` reads settings from YAML first."""
    from smix_pz.training import train

    result = train(config)
    table = Table(title=f"{config.algorithm} on {config.env_name}, {result.seconds:.1f} s")
    names = [n for n in ("eval/return", "eval/win_rate", "eval/episode_length") if n in result.records[0].metrics[-1]]
    for heading in ("seed", "steps", *names):
        table.add_column(heading, justify="right")
    for record in result.records:
        last = record.metrics[-1]
        table.add_row(str(record.run["seed"]), f"{last['t_env']:,}", *(f"{last[name]:.3f}" for name in names))
    Console().print(table)
    if config.out is not None:
        Console().print(f"records and policies: {config.out}", highlight=False, soft_wrap=True)


_EnvKwargs = Annotated[dict[str, Any], tyro.conf.arg(help="Arguments of the environment: KEY=VALUE ...")]


def _evaluate(
    policy: tyro.conf.Positional[str],
    /,
    episodes: int = 32,
    seed: int = 0,
    env: str | None = None,
    map: str | None = None,
    env_kwargs: _EnvKwargs = {},  # noqa: B006 (read only)
    team_reward: Literal["mean", "sum", "first", "individual"] | None = None,
    episode_limit: int | None = None,
    preprocess: tuple[str, ...] = (),
) -> None:
    """Play a saved policy greedily, or a scripted player, and print its returns.

    Args:
        policy: a .safetensors file that training wrote, the name of a policy of the package (smix-3m), or a scripted
            player: random (any environment), nearest, focus-fire, heuristic (SMAC's maps).
        episodes: how many episodes.
        seed: of the environments.
        env: another environment of the same sizes; None: the one it was trained on. Of a scripted player: smac_sim_v0.
        map: short for --env-kwargs map_name=MAP.
        env_kwargs: arguments of the environment, over those it was trained with.
        team_reward: of a scripted player: how agents' unlike rewards become the team's. A policy knows its own.
        episode_limit: of a scripted player: steps after which an episode is truncated. A policy knows its own.
        preprocess: of a scripted player: SuperSuit's wrappers, as in training. A policy knows its own.
    """
    import numpy as np

    from smix_pz.baselines import evaluate_player, is_player

    keywords = _with_map(env_kwargs, map)
    if is_player(policy):
        summary = evaluate_player(
            policy, episodes, seed, env=env, env_kwargs=keywords, reward=team_reward, episode_limit=episode_limit,
            preprocess=preprocess,
        )  # fmt: skip
        title = f"{policy} on {env or 'smac_sim_v0'}"
    else:
        from smix_pz.policy import evaluate, load

        if team_reward is not None or episode_limit is not None or preprocess:
            raise ValueError(
                "--team-reward, --episode-limit and --preprocess are for scripted players: a policy plays as it was "
                "trained"
            )
        loaded = load(policy)
        summary = evaluate(loaded, episodes, seed, env=env, **keywords)
        title = f"{loaded.about['algorithm']} (seed {loaded.about['seed']}) on {env or loaded.about['env']}"
    table = Table(title=f"{title}, {episodes} episodes")
    for heading in ("return", "std", "lowest", "highest", "length", "win rate"):
        table.add_column(heading, justify="right")
    returns = summary.returns[~np.isnan(summary.returns)]  # an aborted episode has none
    won = summary.won[~np.isnan(summary.won)]
    numbers = [returns.mean(), returns.std(), returns.min(), returns.max(), summary.lengths.mean()]
    table.add_row(*(f"{x:.3f}" for x in numbers), f"{won.mean():.3f}" if won.size else "-")
    Console().print(table)
    if returns.size < episodes:
        Console().print(f"{episodes - returns.size} episode(s) were aborted and are not counted")


def _render(
    out: tyro.conf.Positional[Path],
    /,
    player: str = "focus-fire",
    env: str | None = None,
    map: str | None = None,
    env_kwargs: _EnvKwargs = {},  # noqa: B006 (read only)
    team_reward: Literal["mean", "sum", "first", "individual"] | None = None,
    episodes: int = 1,
    seed: int = 0,
    fps: float | None = None,
    size: int = 640,
) -> None:
    """Write a film of episodes, as GIF or MP4 (MP4 needs the extra smix-pz[video], and suits long episodes better).

    Args:
        out: a file that ends in .gif or .mp4.
        player: a .safetensors file that training wrote, the name of a policy of the package (smix-3m), or a scripted
            player: random, nearest, focus-fire, heuristic.
        env: the environment; None: the one the policy was trained on, or smac_sim_v0.
        map: short for --env-kwargs map_name=MAP.
        env_kwargs: arguments of the environment.
        team_reward: of a scripted player: how agents' unlike rewards become the team's. A policy knows its own.
        episodes: how many, one after the other.
        seed: of the first episode.
        fps: pictures a second; None: the speed at which the game is watched.
        size: width of the picture, in pixels.
    """
    from smix_pz.render import render_episode

    film = render_episode(
        out, player=player, env=env, env_kwargs=_with_map(env_kwargs, map), reward=team_reward, episodes=episodes,
        seed=seed, fps=fps, size=size,
    )  # fmt: skip
    ends = {True: "won", False: "not won", None: "ended"}
    for index, (total, length, won) in enumerate(zip(film.returns, film.lengths, film.won, strict=True)):
        _console().print(f"episode {index}: {ends[won]} after {length} steps, return {total:.2f}", highlight=False)
    _console().print(f"film: {film.path}", highlight=False, soft_wrap=True)


def _export(policy: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], /) -> None:
    """Write a trained team's network for use outside the package, as TorchScript (.pt) or ONNX (.onnx).

    Args:
        policy: a .safetensors file that training wrote, or the name of a policy of the package.
        out: a file that ends in .pt or .onnx (needs the extra smix-pz[onnx]).
    """
    from smix_pz.policy import load

    trained = load(policy)
    path, agent = trained.export(out), trained.agent
    hidden, actions = agent.hidden_dim, agent.n_actions
    words = f"{path}: inputs obs [M, {agent.obs_dim}], last_action [M], agent [M], hidden [M, {hidden}], "
    words += f"mask [M, {actions}]; outputs action [M], next_hidden [M, {hidden}], q [M, {actions}]"
    _console().print(words, highlight=False, markup=False, soft_wrap=True)


def _doctor() -> None:
    """Say what is installed, and what StarCraft II would need, each with its remedy."""
    from smix_pz.doctor import main as doctor

    doctor()


def _standin() -> None:
    """The embedded engine in StarCraft II's place, for other people's SMAC code: `smix-pz standin install FOLDER`."""


def _standin_install(
    folder: tyro.conf.Positional[Path],
    /,
    preset: str = "liberty",
    jitter: float = 0.1,
    versions: tuple[str, ...] = (),
) -> None:
    """Write a folder for SC2PATH: programs that use SMAC through pysc2 then play on the embedded engine.

    Args:
        folder: a new or empty folder, or one that this has written before.
        preset: unit statistics, liberty or lotv.
        jitter: how far a unit's place at the start varies, in cells.
        versions: game versions that programs ask for by name (4.10, 4.6.2), and are to find.
    """
    from smix_pz.standin.folder import install, warm_up

    notice = install(folder, preset, jitter, versions)
    warm_up()
    where = folder.expanduser().resolve()
    words = f"{where} now holds {notice.title}, which is not StarCraft II but stands in its place."
    _console().print(words, highlight=False, soft_wrap=True)
    _console().print(f"export SC2PATH={shlex.quote(str(where))}", highlight=False, soft_wrap=True)


def _standin_serve(
    *, port: int, host: str = "127.0.0.1", preset: str = "liberty", jitter: float = 0.1, forever: bool = False
) -> None:
    """Run the server by hand, for one client, at ws://HOST:PORT/sc2api.

    Args:
        port: where to listen; 0: any free port, which is printed.
        host: an address of the loopback interface.
        preset: unit statistics, liberty or lotv.
        jitter: how far a unit's place at the start varies, in cells.
        forever: serve one client after the other until interrupted.
    """
    from smix_pz.standin.server import serve_by_hand

    serve_by_hand(host, port, preset, jitter, forever=forever)


def _with_map(env_kwargs: dict[str, Any], map_name: str | None) -> dict[str, Any]:
    return dict(env_kwargs) if map_name is None else {**env_kwargs, "map_name": map_name}


def _study(
    name: tyro.conf.Positional[str],
    /,
    out: Path | None = None,
    preset: str | None = None,
    quick: bool = False,
    engine: Literal["smac-sim", "smac"] | None = None,
    maps: tuple[str, ...] | None = None,
    m: int | None = None,
    env_kwargs: _EnvKwargs = {},  # noqa: B006 (read only)
    runs: int | None = None,
    steps: int | None = None,
    algorithms: tuple[str, ...] | None = None,
    plugin: tuple[str, ...] = (),
    eval_every: int | None = None,
    first_seed: int | None = None,
    baselines: tuple[str, ...] | None = None,
    expressivity: bool = True,
    workers: int | None = None,
    stack: int = 20,
    launcher: Literal["local", "ray", "slurm"] = "local",
    address: str | None = None,
    gpus: float = 0.0,
    retries: int = 3,
    slurm: tuple[str, ...] = (),
    seed: int | None = None,
) -> None:
    """Run a study of the paper and write its report; call it again to go on where it stopped.

    Args:
        name: a study of the package (table3, table4, figure4, figure7, figure8, matrix_game, smac_3m), or a YAML file;
            theory: the paper's theorems on tables; estimators: bias and variance of the return estimators.
        out: its folder; None: results/NAME, followed by what is not the study's own of preset, engine, env_kwargs and
            quick.
        preset: a named group of settings: paper, controlled or standard; of matrix_game also per_episode and pymarl.
        quick: the small version, which finishes in minutes and shows how things look, not how they are.
        engine: what plays SMAC's maps: smac-sim, the embedded engine, or smac, StarCraft II.
        maps: which of SMAC's maps, in place of the study's.
        m: short for --env-kwargs m=M, steps of the matrix game.
        env_kwargs: arguments of the environments, over the study's own, such as preset=lotv.
        runs: seeds of each algorithm.
        steps: environment steps of each run.
        algorithms: which rows or variants, in place of the study's.
        plugin: modules or Python files that register algorithms or environments; they are imported first.
        eval_every: environment steps between evaluations.
        first_seed: the first seed.
        baselines: scripted players to show beside the algorithms: random, nearest, focus-fire, heuristic.
        expressivity: with the payoff tables.
        workers: jobs at a time; None: as many as cores and memory (or the Ray cluster) allow.
        stack: most seeds trained as one program.
        launcher: processes of this machine, tasks of a Ray cluster, or a script for a Slurm job array.
        address: of the Ray cluster, such as auto or 10.0.0.1:6379; None: start one on this machine.
        gpus: GPUs of a job, with Ray a fraction where several share one; give the study device cuda besides.
        retries: with Ray: how often a job is started again that was lost with its node.
        slurm: further options for sbatch, each as one word: --slurm=--partition=long.
        seed: of the studies theory and estimators, which train nothing; None: 0.
    """
    from smix_pz.benchmarks.launch import Launch
    from smix_pz.benchmarks.study import command_line, run_study
    from smix_pz.benchmarks.suite import ENGINES, load_study, study_default

    given: dict[str, Any] = {
        "preset": preset,
        "env": None if engine is None else ENGINES[engine],
        "maps": maps,
        "runs": runs,
        "steps": steps,
        "algorithms": algorithms,
        "eval_every": eval_every,
        "first_seed": first_seed,
        "baselines": baselines,
        "env_kwargs": {**({} if m is None else {"m": m}), **env_kwargs} or None,
        "expressivity": None if expressivity else {},
    }
    overrides = {key: value for key, value in given.items() if value is not None}
    command = command_line(sys.argv[1:])
    if name in ("theory", "estimators"):
        from smix_pz.benchmarks.estimator_study import run_estimators
        from smix_pz.benchmarks.theory_study import run_theory

        if overrides or plugin or workers is not None:
            raise ValueError(f"the study {name} trains nothing; its options are --out, --seed and --quick")
        run = run_theory if name == "theory" else run_estimators
        run(out or Path("results") / name, seed=seed or 0, quick=quick, command=command, console=_console())
        return
    if seed is not None:
        raise ValueError(
            "--seed is an option of the studies theory and estimators; did you mean --first-seed or --runs?"
        )
    study = load_study(name, overrides, quick=quick, plugins=plugin)
    parts = [study.name, *([study.preset] if study.preset != study_default(name, "preset") else [])]
    parts += [*([engine] if study.env != study_default(name, "env") else [])]  # type: ignore[list-item]
    parts += [*(f"{key}={value}".replace("/", "_") for key, value in env_kwargs.items()), *(["quick"] if quick else [])]
    folder = out or Path("results") / "-".join(parts)
    if launcher != "ray" and address is not None:
        raise ValueError(f"--address is an option of --launcher ray; the launcher is {launcher}")
    how = Launch(launcher, workers, address, gpus, retries, slurm)
    run_study(study, folder, stack=stack, how=how, command=command, console=_console())


def _status(folder: tyro.conf.Positional[Path], /, watch: bool = False, json: bool = False) -> None:
    """Show how the jobs of a study are doing, wherever they run; files are read, nothing else.

    Args:
        folder: a study's folder, or the out of smix-pz train.
        watch: go on until interrupted.
        json: print it for programs.
    """
    import time

    from smix_pz.benchmarks.live import LiveView, read_statuses, status_table, to_json

    statuses = read_statuses(folder)
    if json:
        print(to_json(statuses))
    elif not watch:
        _console().print(status_table(statuses))
    else:
        with LiveView(folder, Console()) as view:
            while True:
                view.update()
                time.sleep(view.interval)


def _job(folder: tyro.conf.Positional[Path], index: tyro.conf.Positional[int], /) -> None:
    """Run one job of a study by its place in the study's jobs.json, as an array task of Slurm does.

    Args:
        folder: the study's folder.
        index: the job's place, from 0.
    """
    from smix_pz.benchmarks.suite import read_plan, remaining
    from smix_pz.training import train

    jobs = read_plan(folder)
    if not 0 <= index < len(jobs):
        raise ValueError(f"there is no job {index}; {folder} has jobs 0 to {len(jobs) - 1}")
    left = remaining(jobs[index : index + 1])
    if not left:
        _console().print(f"job {index} ({jobs[index].label}) is done", highlight=False)
        return
    train(dataclasses.replace(left[0].config, progress=True))


def _report(folder: tyro.conf.Positional[Path], /) -> None:
    """Write a study's report anew from the records there are; nothing is trained.

    Args:
        folder: a study's folder, such as results/matrix_game.
    """
    from smix_pz.benchmarks.study import report_study
    from smix_pz.benchmarks.suite import load_study, plan

    study = load_study(str(folder / "study.yaml"))
    report_study(study, folder, plan(study, folder), console=_console())


def _compare(
    first: tyro.conf.Positional[Path],
    second: tyro.conf.Positional[Path],
    /,
    metric: str | None = None,
    out: Path | None = None,
) -> None:
    """Put two folders of records side by side: final values with intervals, who does better, and what differs.

    Args:
        first: a study's folder, or one that training wrote.
        second: another one. Runs are matched by task and algorithm; those of different engines are not compared.
        metric: eval/win_rate, eval/return or eval/episode_length; None: the win rate where there is one.
        out: a folder for the tables as CSV, Markdown and LaTeX; None: none are written.
    """
    from smix_pz.benchmarks.compare import compare

    found = compare(first, second, metric)
    for table, name in ((found.values, "comparison"), (found.settings, "differences")):
        _console().print(table.to_rich())
        if out is not None:
            table.save(out / name)
    if out is not None:
        _console().print(f"tables: {out}", highlight=False, soft_wrap=True)


def _envs() -> None:
    """List the environments that come with the package."""
    from smix_pz import envs

    table = Table("name", "what it is")
    for name, entry in envs.ENVS.items():
        table.add_row(name, entry.summary)
    _console().print(table)
    _console().print("Any cooperative PettingZoo environment works too: a registry id, or module:callable.")


def _algorithms() -> None:
    """List the algorithms, and the return estimators that any of them can be given."""
    from smix_pz.algorithms import ALGORITHMS, ESTIMATORS

    table = Table("name", "mixer", "estimator", "replay", "what it is")
    for row in ALGORITHMS.values():
        returns = row.returns
        look = f" {returns.td_lambda}" if returns.has_lambda else f" {returns.n_step}" * (returns.kind == "n-step")
        table.add_row(row.name, row.mixer, returns.kind + look, str(row.buffer_size or "newest group"), row.summary)
    _console().print(table)
    table = Table("estimator", "what it is")
    for name, summary in ESTIMATORS.items():
        table.add_row(name, summary)
    _console().print(table)
    _console().print(
        "--estimator NAME puts another one in an algorithm's place; combinations that would be wrong are refused."
    )


def _console() -> Console:
    """Tables need some width; where nothing says how wide the output is, assume a wide window."""
    console = Console()
    return console if console.is_terminal else Console(width=120)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; a bad setting ends with one line on the terminal and status 2."""
    from smix_pz.envs.starcraft import StarCraftUnavailable
    from smix_pz.jobs import JobsFailed

    words = list(sys.argv[1:] if arguments is None else arguments)
    if not {"", os.getcwd()} & set(sys.path):
        sys.path.append(os.getcwd())  # for --env its.module; last, so that nothing here hides an installed package
    try:
        default, words = _with_config_file(words)
        commands: dict[str, Any] = {
            "train": _train_from(default),
            "evaluate": _evaluate,
            "render": _render,
            "export": _export,
            "study": _study,
            "report": _report,
            "compare": _compare,
            "status": _status,
            "job": _job,
            "envs": _envs,
            "algorithms": _algorithms,
            "standin": _standin,
            "doctor": _doctor,
        }
        program, description = "smix-pz", "Cooperative multi-agent RL."
        if words[:1] == ["standin"]:
            program, description, words = "smix-pz standin", _standin.__doc__ or "", words[1:]
            commands = {"install": _standin_install, "serve": _standin_serve}
        tyro.extras.subcommand_cli_from_dict(
            commands, prog=program, description=description, args=words, registry=_REGISTRY
        )
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, JobsFailed, StarCraftUnavailable) as error:
        Console(stderr=True).print(f"smix-pz: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(2) from error
    except KeyboardInterrupt as stop:
        Console(stderr=True).print("interrupted; the same command goes on from here")
        raise SystemExit(128 + getattr(stop, "signum", 2)) from None


def _train_from(default: TrainConfig) -> Any:
    def train(config: tyro.conf.OmitArgPrefixes[TrainConfig] = default, map: str | None = None) -> None:
        """Train an algorithm on an environment; `--config FILE` reads settings from YAML first.

        Args:
            config: the settings.
            map: short for --env-kwargs map_name=MAP.
        """
        _train(dataclasses.replace(config, env_kwargs=_with_map(config.env_kwargs, map)))

    return train


def _with_config_file(words: list[str]) -> tuple[TrainConfig, list[str]]:
    """Take `--config FILE` out of the words; what the file says becomes the defaults."""
    if words[:1] != ["train"] or "--config" not in words:
        return TrainConfig(), words
    at = words.index("--config")
    if at + 1 == len(words):
        raise ValueError("--config needs a YAML file")
    values = yaml.safe_load(Path(words[at + 1]).read_text()) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{words[at + 1]} should hold a mapping of settings")
    return TrainConfig.from_dict(values), words[:at] + words[at + 2 :]


if __name__ == "__main__":
    main()
