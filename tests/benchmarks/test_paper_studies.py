"""The paper's studies as its text has them, their presets and quick versions, and other people's methods in them."""

from __future__ import annotations

import dataclasses
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from smix_pz.algorithms import ALGORITHMS, register
from smix_pz.benchmarks.study import report_study, run_study
from smix_pz.benchmarks.suite import Study, load_study, plan, save_study, study_names
from smix_pz.cli import main
from smix_pz.plugins import load_plugin
from smix_pz.records import read_records
from smix_pz.training import train

SMAC = ("table3", "table4", "figure7", "figure8")


def configs(study: Study, tmp_path: Path) -> dict[str, Any]:
    """Variant -> config on the study's first task."""
    first = study.task_list()[0].name
    return {job.variant: job.config for job in plan(study, tmp_path) if job.task == first and not job.payoff}


# --- what the paper says ------------------------------------------------------------------------------------------


def test_table_3() -> None:
    study = load_study("table3")
    assert study.maps == ("3m", "8m", "2s3z", "3s5z", "2m_vs_1z", "2s_vs_1sc", "3s_vs_3z", "1c3s5z", "MMM")
    assert [v.text for v in study.variant_list()] == [
        "SMIX(λ)", "QMIX", "COMA-R", "COMA", "VDN-R", "VDN", "IQL-R", "IQL", "QTRAN-R", "QTRAN"
    ]  # fmt: skip
    assert (study.runs, study.steps, study.eval_every, study.eval_episodes) == (10, 1_000_000, 20_000, 24)
    assert study.settings == {"parallel_episodes": 4, "updates_per_group": 1}


def test_figure_7_has_the_papers_values(tmp_path: Path) -> None:
    study = load_study("figure7")
    assert study.maps == ("3s5z", "2s_vs_1sc")
    made = configs(study, tmp_path)
    panels = {panel.name: panel.curves for panel in study.panel_list()}
    assert set(panels) == {"lambda", "n-step", "replay"}

    def settings(name: str) -> tuple[float | None, int | None, int]:
        config, row = made[name], ALGORITHMS[made[name].algorithm]
        lam = row.returns.td_lambda if row.returns.kind == "lambda" else None
        lam = config.td_lambda if config.td_lambda is not None else lam
        return lam, config.n_step, config.buffer_size or row.buffer_size

    others = {key: [settings(name) for name in curves if name != "qmix"] for key, curves in panels.items()}
    assert sorted(lam for lam, _, _ in others["lambda"] if lam is not None) == [0, 0.2, 0.4, 0.5, 0.6, 0.8, 1]
    assert {b for _, _, b in others["lambda"]} == {1500}
    # One step is both n = 1 and lambda = 0.
    assert sorted(n or 1 for _, n, _ in others["n-step"]) == [1, 2, 4, 8, 16]
    assert sorted(b for _, _, b in others["replay"]) == [4, 500, 1500, 5000]
    assert all("qmix" in curves for curves in panels.values())


def test_figure_8_table_4_and_figure_4() -> None:
    eight, four = load_study("figure8"), load_study("table4")
    assert set(eight.algorithms) == {"smix", "qmix", "smix-noabs", "qmix-noabs"} and eight.runs == 6
    assert four.maps == ("3m", "8m", "25m") and four.algorithms == ("smix", "qmix") and four.paper_table == "IV"
    matrix, figure = load_study("matrix_game"), load_study("figure4")
    assert dataclasses.replace(figure, name=matrix.name) == matrix


@pytest.mark.parametrize("name", study_names())
def test_every_study_has_a_quick_version_that_is_small(name: str, tmp_path: Path) -> None:
    full, quick = load_study(name), load_study(name, quick=True)
    work = [study.runs * study.steps * len(plan(study, tmp_path)) for study in (full, quick)]
    assert work[1] * 5 <= work[0] and quick.scale == "quick" and full.scale == "full"
    assert set(quick.algorithms) <= set(full.algorithms)


@pytest.mark.parametrize("name", SMAC)
def test_controlled_holds_everything_but_the_estimator(name: str, tmp_path: Path) -> None:
    study = load_study(name, {"preset": "controlled"})
    made = configs(study, tmp_path)
    free = {"algorithm", "out", "td_lambda", "n_step"}  # the estimator, and where it goes
    kept = {
        key: {k: v for k, v in dataclasses.asdict(config).items() if k not in free}
        for key, config in made.items()
        if key != "coma" and not key.startswith("replay-")
    }
    assert all(settings == kept["smix"] for settings in kept.values()) and len(kept) > 1
    assert kept["smix"]["buffer_size"] == 1500 and kept["smix"]["double_q"] is True
    if name == "table3":
        assert made["coma"].buffer_size is None  # on-policy, it has no replay to hold equal
    if name == "figure7":
        assert made["replay-4"].buffer_size == 4  # what the panel is about stays


def test_standard_evaluates_as_gorsane_et_al(tmp_path: Path) -> None:
    made = configs(load_study("table3", {"preset": "standard"}), tmp_path)
    assert all((c.eval_every, c.eval_episodes, c.absolute_episodes) == (10_000, 32, 320) for c in made.values())
    assert made["qmix"].updates_per_group == 1


# --- layers -------------------------------------------------------------------------------------------------------


def test_the_command_wins_over_quick_and_quick_over_the_preset() -> None:
    study = load_study("table3", {"preset": "standard", "steps": 7000, "maps": ["3m"]}, quick=True)
    small = yaml.safe_load(Path(sys.modules["smix_pz"].__file__ or "").with_name("benchmarks").joinpath(
        "studies", "table3.yaml").read_text("utf-8"))["quick"]  # fmt: skip
    assert (study.steps, study.maps) == (7000, ("3m",))
    assert (study.eval_every, study.runs) == (small["eval_every"], small["runs"])
    assert study.absolute_episodes == 320 and study.settings["epsilon_steps"] == small["epsilon_steps"]


def test_a_saved_study_is_the_same_study(tmp_path: Path) -> None:
    study = load_study("figure7", {"preset": "controlled", "steps": 5000}, quick=True)
    save_study(study, tmp_path)
    assert load_study(str(tmp_path / "study.yaml")) == study


@pytest.mark.parametrize(
    ("name", "overrides", "message"),
    [
        ("table3", {"preset": "contrlled"}, "did you mean 'controlled'"),
        ("table3", {"algorithms": ["smix", "qmixx"]}, "did you mean 'qmix'"),
        ("figure7", {"algorithms": ["lamda-0.2"]}, "did you mean 'lambda-0.2'"),
        ("table3", {"maps": ["3mm"]}, "did you mean '3m'"),
        ("table3", {"maps": ["3m", "3m"]}, "two tasks"),
        ("matrix_game", {"maps": ["3m"]}, "matrix_game_v0, which has no maps"),
        ("matrix_game", {"env": "smac_v0"}, "another engine is for SMAC's maps"),
        ("table3", {"stepps": 5}, "did you mean 'steps'"),
    ],
)
def test_mistakes_are_named(name: str, overrides: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=message):
        plan(load_study(name, overrides), tmp_path)
    assert not list(tmp_path.iterdir())


# --- other people's methods and environments ----------------------------------------------------------------------

PLUGIN = '''
"""A method of somebody's: QMIX with their replay, and an environment."""
from dataclasses import replace
from smix_pz.algorithms import ALGORITHMS, register
from smix_pz.envs import matrix_game_v0

register(replace(ALGORITHMS["qmix"], name="theirs", buffer_size=64, summary="somebody's"))

def make(m=2):
    return matrix_game_v0.parallel_env(m=m)
'''


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder outside the package with a plugin and a study that extends one of the package's."""
    folder = tmp_path / "lab"
    folder.mkdir()
    (folder / "their_method.py").write_text(PLUGIN)
    study = {
        "extends": "matrix_game",
        "name": "lab",
        "plugins": ["their_method.py"],
        "algorithms": ["qmix", "theirs", "slow"],
        "variants": {"slow": {"algorithm": "theirs", "learning_rate": 1e-4}},
        "tasks": {"ours": {"env_kwargs": {"m": 3}}, "theirs": {"env": "their_method:make", "env_kwargs": {"m": 2}}},
        "runs": 2, "steps": 200, "eval_every": 100, "expressivity": {}, "reference_returns": {}, "claims": [],
    }  # fmt: skip
    (folder / "lab.yaml").write_text(yaml.safe_dump(study))
    yield folder
    ALGORITHMS.pop("theirs", None)
    sys.modules.pop("their_method", None)


def test_a_study_outside_the_package_with_a_method_and_an_environment_of_its_own(outside: Path) -> None:
    console = Console(file=io.StringIO())
    study = load_study(str(outside / "lab.yaml"))
    page = run_study(study, outside / "out", workers=1, console=console).read_text()
    records = read_records(outside / "out" / "records")
    assert len(records) == 2 * 3 * 2 and all(record.finished for record in records)
    assert {record.run["composition"]["buffer_size"] for record in records if record.run["algorithm"] == "theirs"} == {
        64
    }
    paths = {str(r.path.parent.relative_to(outside / "out" / "records")) for r in records if r.path}
    assert paths == {f"{task}/{name}" for task in ("ours", "theirs") for name in ("qmix", "theirs", "slow")}
    assert "theirs" in page and str(outside) not in page
    # The folder holds what it needs: moved away from the plugin, it is still read.
    (outside / "out").rename(outside.parent / "moved")
    for path in outside.iterdir():
        path.unlink()
    ALGORITHMS.pop("theirs")
    sys.modules.pop("their_method")
    moved = outside.parent / "moved"
    again = load_study(str(moved / "study.yaml"))
    assert report_study(again, moved, plan(again, moved), console=console).is_file()


def test_a_changed_plugin_is_not_mixed_with_its_older_runs(outside: Path) -> None:
    study = load_study(str(outside / "lab.yaml"))
    save_study(study, outside / "out")
    (outside / "their_method.py").write_text(PLUGIN + "\n# better now\n")
    with pytest.raises(ValueError, match=r"not the file that .* was begun with"):
        save_study(study, outside / "out")


def test_a_plugin_on_the_command_line(outside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(
        ["study", "matrix_game", "--plugin", str(outside / "their_method.py"), "--algorithms", "theirs", "--runs", "1",
         "--steps", "100", "--eval-every", "100", "--no-expressivity", "--workers", "1", "--out", str(outside / "o")]
    )  # fmt: skip
    assert "theirs" in capsys.readouterr().out
    assert (outside / "o" / "plugins" / "their_method.py").is_file()


def test_plugins_that_cannot_be(tmp_path: Path, outside: Path) -> None:
    with pytest.raises(ValueError, match="no plugin file"):
        load_plugin(str(tmp_path / "none.py"))
    with pytest.raises(ValueError, match="no plugin 'no_such_module_here'"):
        load_plugin("no_such_module_here")
    (tmp_path / "json.py").write_text("x = 1")
    with pytest.raises(ValueError, match="name of another module"):
        load_plugin(str(tmp_path / "json.py"))
    (tmp_path / "half.py").write_text("raise RuntimeError('broken')")
    with pytest.raises(RuntimeError, match="broken"):
        load_plugin(str(tmp_path / "half.py"))
    assert "half" not in sys.modules
    module = load_plugin(str(outside / "their_method.py"))
    assert load_plugin(str(outside / "their_method.py")) is module  # registered once, not refused the second time


def test_register_refuses_names_that_are_taken() -> None:
    with pytest.raises(ValueError, match="already"):
        register(ALGORITHMS["qmix"])
    with pytest.raises(ValueError, match="did you mean 'monotonic'"):
        register(dataclasses.replace(ALGORITHMS["qmix"], name="new", mixer="monotone"))
    assert "new" not in ALGORITHMS


# --- the absolute metric ------------------------------------------------------------------------------------------


def test_the_absolute_metric_reaches_the_report(tmp_path: Path) -> None:
    study = load_study(
        "matrix_game",
        {
            "runs": 2,
            "steps": 400,
            "eval_every": 100,
            "algorithms": ["smix"],
            "expressivity": {},
            "absolute_episodes": 3,
        },
    )
    page = run_study(study, tmp_path, workers=1, console=Console(file=io.StringIO())).read_text()
    for record in read_records(tmp_path / "records"):
        best = max(row["eval/return"] for row in record.metrics)
        first = next(row["step"] for row in record.metrics if row["eval/return"] == best)
        # Game and greedy play are deterministic: new episodes of the best policy return what its evaluation did.
        assert (record.end["absolute/return"], record.end["absolute/step"]) == (best, first)
        assert record.path is not None and record.path.with_suffix(".best.safetensors").is_file()
    assert "absolute metric" in page


def test_without_it_nothing_changes(tmp_path: Path) -> None:
    base = configs(load_study("matrix_game", {"runs": 1, "steps": 300, "eval_every": 100}), tmp_path)["smix"]
    plain, asked = (train(dataclasses.replace(base, out=None, absolute_episodes=n)) for n in (None, 2))
    assert plain.records[0].metrics == asked.records[0].metrics
    assert not [key for key in plain.records[0].end if key.startswith("absolute")]
