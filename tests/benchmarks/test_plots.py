"""Figures: what is drawn equals what was computed, names stay readable, files are the same each time."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from smix_pz.benchmarks import plots
from smix_pz.benchmarks.tables import ValueTable
from smix_pz.records import RunRecord


def run(algorithm: str, seed: int, values: list[float], engine: str = "toy 1", every: int = 1000) -> RunRecord:
    metrics = tuple({"t_env": every * k, "step": every * k, "eval/return": v} for k, v in enumerate(values))
    return RunRecord({"algorithm": algorithm, "env": "toy", "engine": engine, "seed": seed}, metrics, True)


GROUPS = {
    "smix": [run("smix", 0, [0, 4, 8, 8]), run("smix", 1, [0, 2, 6, 8]), run("smix", 2, [3, 3, 4, 5])],
    "qmix": [run("qmix", 0, [0, 5, 5, 5]), run("qmix", 1, [0, 3])],
    "mine": [run("mine", 0, [1, 1, 1, 1])],
}
LINES = {"optimal": 8.0, "safe": 5.0, "random": 4.95}


def texts(figure: Figure) -> list[str]:
    found = [text.get_text() for text in figure.findobj(Text)]
    return [text for text in found if text]


def test_learning_curves_draw_the_mean_and_count_the_runs() -> None:
    figure = plots.learning_curves(GROUPS, "eval/return", LINES)
    (axes,) = figure.axes
    lines = {line.get_label(): line for line in axes.lines}
    smix = lines["smix: 3 runs"]
    np.testing.assert_allclose(smix.get_xdata(), [0, 1, 2, 3])  # thousands
    np.testing.assert_allclose(smix.get_ydata(), [1, 3, 6, 7])
    assert smix.get_color() == plots.ALGORITHM_STYLES["smix"].color
    # Where a run is missing the solid line stops; it does not go on with the other runs.
    np.testing.assert_array_equal(lines["qmix: 2 runs, 1 incomplete"].get_ydata(), [0, 4, np.nan, np.nan])
    assert "mine: 1 run, no interval" in lines
    assert axes.get_xlabel() == "environment steps (thousands)" and "return" in axes.get_ylabel()


def test_the_band_is_the_interval_and_stops_with_the_runs() -> None:
    runs = [run("qmix", 0, [0, 5, 5]), run("qmix", 1, [0, 3]), run("qmix", 2, [0, 1, 9])]
    figure = plots.learning_curves({"qmix": runs}, interval="student")
    (band,) = figure.axes[0].findobj(FillBetweenPolyCollection)
    points = np.concatenate([path.vertices for path in band.get_paths()])
    half = 4.30265273 * np.std([5, 3, 1], ddof=1) / np.sqrt(3)
    assert points[:, 0].max() == 1  # thousand; two runs go on to 2
    assert (points[:, 1].min(), points[:, 1].max()) == pytest.approx((3 - half, 3 + half))


@pytest.mark.parametrize("draw", [plots.learning_curves, plots.final_returns])
def test_reference_lines_are_named_and_their_names_do_not_overlap(draw: object) -> None:
    figure = draw(GROUPS, "eval/return", LINES)  # type: ignore[operator]
    figure.draw_without_rendering()
    named = [text for text in figure.axes[0].texts if text.get_text() in ("optimal = 8", "safe = 5", "random = 4.95")]
    assert len(named) == 3
    for one, other in combinations(named, 2):
        assert not one.get_window_extent().overlaps(other.get_window_extent())


@pytest.mark.parametrize(
    ("every", "label"),
    [(10, "environment steps"), (5000, "environment steps (thousands)"), (10**6, "environment steps (millions)")],
)
def test_step_units(every: int, label: str) -> None:
    figure = plots.learning_curves({"smix": [run("smix", 0, [0, 1, 2, 3], every=every)]})
    assert figure.axes[0].get_xlabel() == label


@pytest.mark.parametrize("draw", [plots.learning_curves, plots.final_returns])
def test_engines_are_not_mixed(draw: object) -> None:
    with pytest.raises(ValueError, match="engine 'toy 1' and 'real 5'"):
        draw({"smix": [*GROUPS["smix"], run("smix", 9, [0, 1], "real 5")]})  # type: ignore[operator]


def test_final_returns_show_every_run() -> None:
    figure = plots.final_returns(GROUPS)
    (axes,) = figure.axes
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_array_equal(sorted(dots[0].get_xdata()), [5, 8, 8])
    assert len(set(zip(*dots[0].get_data(), strict=True))) == 3  # the two runs at 8 do not hide each other
    assert [label.get_text() for label in axes.get_yticklabels()] == [
        "smix\n3 runs",
        "qmix\n1 of 2 runs",
        "mine\n1 run",
    ]
    means = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "D"]
    assert means == pytest.approx([7, 5, 1])


def test_styles_follow_names_not_positions() -> None:
    many = [f"variant-{k}" for k in range(8)]
    styles = plots.styles_for(["smix", *many])
    assert styles["smix"] == plots.ALGORITHM_STYLES["smix"] == plots.styles_for(["SMIX"])["SMIX"]
    assert len(set(styles.values())) == 9
    assert plots.styles_for([many[3]])[many[3]] == plots.styles_for(["smix", many[3]])[many[3]]
    assert len(set(plots.ALGORITHM_STYLES.values())) == len(plots.ALGORITHM_STYLES)


# --- value tables -------------------------------------------------------------------------------------------------

TRUTH = np.array([[8.0, -12.0, -12.0], [-12.0, 0.0, 0.0], [-12.0, 0.0, 6.0]])


def value_table(algorithm: str, errors: list[float], payoff: str = "climb", truth: np.ndarray = TRUTH) -> ValueTable:
    learned = truth + np.array(errors)[:, None, None]
    return ValueTable(algorithm, payoff, truth, learned, ((2, 2),) * len(errors), tuple(range(10, 10 + len(errors))))


def test_value_tables_show_the_median_run_its_numbers_and_its_greedy_action() -> None:
    figure = plots.value_tables([value_table("qmix", [0.1, 30.0, 2.0]), value_table("vdn", [0.0])])
    truth, qmix, vdn = [axes for axes in figure.axes if axes.images]
    assert "8" in {text.get_text() for text in truth.texts} and truth.get_title(loc="left").startswith("true payoff")
    shown = [float(text.get_text()) for text in qmix.texts]
    np.testing.assert_allclose(shown, (TRUTH + 2.0).ravel())  # seed 12, whose error is the median one
    assert qmix.get_title(loc="left") == "qmix, seed 12\nlargest error 2\ngreedy optimal in 0 of 3"
    assert vdn.get_title(loc="left") == "vdn\nlargest error 0\ngreedy is not optimal"
    boxes = {tuple(np.round(box.get_center(), 9)) for box in qmix.patches if isinstance(box, Rectangle)}
    assert boxes == {(2.0, 2.0)}
    np.testing.assert_array_equal(truth.images[0].get_array(), vdn.images[0].get_array())  # one colour scale


def test_value_tables_group_by_payoff_and_refuse_what_they_cannot_show() -> None:
    figure = plots.value_tables([value_table("vdn", [0.0]), value_table("vdn", [1.0], "other", TRUTH + 1)])
    assert sum(bool(axes.images) for axes in figure.axes) == 4
    assert {"climb", "other"} <= set(texts(figure))
    cube = np.zeros((2, 2, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 2, 2\).*expressivity_table"):
        plots.value_tables([ValueTable("vdn", "cube", cube, cube, ((0, 0, 0),))])
    with pytest.raises(ValueError, match="two different payoff tables"):
        plots.value_tables([value_table("vdn", [0.0]), value_table("qmix", [0.0], truth=TRUTH + 1)])


# --- files --------------------------------------------------------------------------------------------------------


def test_files_are_the_same_each_time(tmp_path: Path) -> None:
    paths = [plots.save(plots.learning_curves(GROUPS), tmp_path / name / "v1.5") for name in "ab"]
    assert [path.name for path in paths[0]] == ["v1.5.svg", "v1.5.png"]
    for one, other in zip(*paths, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert ElementTree.parse(paths[0][0]).getroot().tag.endswith("svg")
    assert b"<dc:date>" not in paths[0][0].read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["v1.5.png", "v1.5.svg"]


def test_pyplot_is_never_imported() -> None:
    code = "import sys, smix_pz.benchmarks.report; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
