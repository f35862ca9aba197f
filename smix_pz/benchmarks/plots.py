"""Figures of a study, drawn with matplotlib's objects: no pyplot, no global state, the same bytes each time.

======================= ========================================================================================
figure                  shows
======================= ========================================================================================
``learning_curves``     mean and 95% interval over runs against environment steps, one colour per algorithm
``curve_panels``        the same, one panel for each task, in rows as a paper prints them
``profiles``            share of runs above each score, over all tasks
``final_returns``       every run's final value as a dot, beside mean and interval: two modes stay visible
``value_tables``        true and learned joint values of one-step payoff tables as heat maps
======================= ========================================================================================

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers; a method and its lambda-return variant
share a colour and differ in the line, so that the pair is seen as one comparison.
"""

from __future__ import annotations

import io
import math
import zlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from smix_pz.benchmarks import statistics
from smix_pz.benchmarks.alignment import align, check_group, common_grid
from smix_pz.benchmarks.table import number
from smix_pz.benchmarks.tables import BOOTSTRAP_SEED, ValueTable
from smix_pz.files import atomic_path
from smix_pz.records import RunRecord

__all__ = [
    "ALGORITHM_STYLES",
    "LineStyle",
    "ValueTable",
    "curve_caption",
    "curve_panels",
    "final_caption",
    "final_returns",
    "learning_curves",
    "panel_styles",
    "profiles",
    "save",
    "styles_for",
    "value_tables",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class LineStyle:
    """How one algorithm is drawn everywhere: ``color`` (hex), ``line`` (matplotlib line style)."""

    color: str
    line: str = "-"


ALGORITHM_STYLES: Mapping[str, LineStyle] = {
    "iql": LineStyle("#009E73", "--"),
    "iql-r": LineStyle("#009E73"),
    "vdn": LineStyle("#E69F00", "--"),
    "vdn-r": LineStyle("#E69F00"),
    "qmix": LineStyle("#0072B2", "--"),
    "smix": LineStyle("#D55E00"),
    "qtran": LineStyle("#CC79A7", "--"),
    "qtran-r": LineStyle("#CC79A7"),
    "coma": LineStyle("#56B4E9", "--"),
    "coma-r": LineStyle("#56B4E9"),
    "qmix-noabs": LineStyle("#0072B2", ":"),
    "smix-noabs": LineStyle("#D55E00", ":"),
    "smix-n": LineStyle("#882255"),
    "smix-onpolicy": LineStyle("#000000", "-."),
    "random": LineStyle("#7F7F7F", ":"),
}
# Tol's muted palette, far enough from the one above that an unknown name is not taken for a known one.
OTHER_STYLES = tuple(
    LineStyle(color, line)
    for line in ("-.", "-")
    for color in ("#332288", "#117733", "#999933", "#88CCEE", "#AA4499", "#44AA99", "#CC6677")
)

# In a paper's panels every pair of a method and its original shares a colour; QMIX is SMIX's original.
_PAIRED = {"qmix": LineStyle("#D55E00", "--"), "qmix-noabs": LineStyle("#0072B2", "--")}
_PAIRED |= {"smix-noabs": LineStyle("#0072B2")}
# Curves of one method with growing settings: from light to dark (Tol), told apart by hue too.
_SEQUENCE = ("#88CCEE", "#44AA99", "#999933", "#117733", "#332288", "#AA4499", "#000000")

METRIC_LABELS: Mapping[str, str] = {
    "eval/return": "mean return of greedy play",
    "eval/win_rate": "win rate of greedy play",
    "eval/episode_length": "mean episode length of greedy play (steps)",
    "train/return": "mean return while training",
    "train/loss": "loss",
}
STEP_UNITS = ((2e6, 1e6, "environment steps (millions)"), (2e3, 1e3, "environment steps (thousands)"))

INK, FAINT = "#222222", "#666666"


def styles_for(labels: Iterable[str]) -> dict[str, LineStyle]:
    """Label -> style. Known names have theirs; another name's style follows from the name itself, not its position.

    Two unknown names in one figure that would look alike are told apart by moving the later one on.
    """
    styles: dict[str, LineStyle] = {}
    for label in labels:
        known = ALGORITHM_STYLES.get(label.lower())
        start = zlib.crc32(label.encode())  # hash() differs from process to process
        free = [OTHER_STYLES[(start + k) % len(OTHER_STYLES)] for k in range(len(OTHER_STYLES))]
        styles[label] = known or next((style for style in free if style not in styles.values()), free[0])
    return styles


def panel_styles(names: Iterable[str]) -> dict[str, LineStyle]:
    """Styles of panels: solid for SMIX and revised methods, dashed for their originals; pairs share a colour."""
    styles = styles_for(names)
    return {name: _PAIRED.get(name.lower(), style) for name, style in styles.items()}


def sequence_styles(names: Sequence[str]) -> dict[str, LineStyle]:
    """Styles of a panel about one setting: named rows as in ``panel_styles``, the others from light to dark."""
    known = {name: style for name, style in panel_styles(names).items() if name.lower() in ALGORITHM_STYLES}
    others = [name for name in names if name not in known]
    shades = np.linspace(0, len(_SEQUENCE) - 1, max(2, len(others))).round().astype(int)
    return {**known, **{name: LineStyle(_SEQUENCE[shade]) for name, shade in zip(others, shades, strict=False)}}


@dataclass(frozen=True)
class CurvePanel:
    """One panel: ``title``, runs by name, how each name is drawn, and how it is written, in the legend's order."""

    title: str
    groups: Mapping[str, Sequence[RunRecord]]
    styles: Mapping[str, LineStyle]
    texts: Mapping[str, str]
    warning: str = ""


def curve_panels(
    panels: Sequence[CurvePanel],
    metric: str = "eval/win_rate",
    *,
    columns: int = 3,
    title: str = "",
    interval: statistics.Interval = "bootstrap",
    seed: int = BOOTSTRAP_SEED,
) -> Figure:
    """Mean and 95% interval over runs, a panel for each task, lettered (a), (b), ... from the left.

    Panels that show the same curves share one legend below; otherwise each column has its own, or each panel.
    A curve behaves at missing runs as in ``learning_curves``. A panel without runs stays, empty, and says so.

    Raises:
        ValueError: no panels, or what ``learning_curves`` refuses.
    """
    if not panels:
        raise ValueError("no panels: expected at least one")
    columns = min(columns, len(panels))
    rows = math.ceil(len(panels) / columns)
    shared = all(dict(panel.texts) == dict(panels[0].texts) for panel in panels)
    entries = len(panels[0].texts)
    legend_rows = math.ceil(entries / 5) if shared else 0
    size = (1.2 + 3.1 * columns, 0.5 + 2.75 * rows + 0.22 * legend_rows)
    figure = Figure(figsize=size, layout="constrained")
    cells = figure.subplots(rows, columns, squeeze=False).ravel()
    percent = metric == "eval/win_rate"
    for index, (axes, panel) in enumerate(zip(cells, panels, strict=False)):
        _style_axes(axes)
        letter = f"({chr(ord('a') + index)}) " if len(panels) > 1 else ""
        axes.set_title(f"{letter}{panel.title}", fontsize=10, color=INK)
        runs = [record for records in panel.groups.values() for record in records]
        if runs:
            grid = _shared_grid(panel.groups, metric)
            scale, x_label = _step_unit(grid)
            for name, text in panel.texts.items():
                records = panel.groups.get(name, ())
                if not records:
                    axes.plot([], [], color=panel.styles[name].color, ls=panel.styles[name].line, label=text)
                    continue
                values = align(records, metric, grid).values * (100 if percent else 1)
                rng = np.random.default_rng(seed)
                found = statistics.estimate(values, rng, interval=interval, missing="omit")
                _curve(axes, grid / scale, found, panel.styles[name], text, width=1.6)
            axes.set_xlabel(x_label, fontsize=9)
            axes.set_xlim(grid.min() / scale, grid.max() / scale if len(grid) > 1 else grid.max() / scale + 1)
        else:
            for name, text in panel.texts.items():
                axes.plot([], [], color=panel.styles[name].color, ls=panel.styles[name].line, label=text)
        if note := panel.warning or ("" if runs else "no runs yet"):
            axes.set_title(note, fontsize=7.5, loc="right", color="#a8321c")
        if percent:
            axes.set_ylim(-4, 104)
        if index % columns == 0:
            axes.set_ylabel("test win rate (%)" if percent else METRIC_LABELS.get(metric, metric), fontsize=9)
        below = panels[index + columns :: columns]
        if not shared and not any(dict(panel.texts) == dict(other.texts) for other in below):
            axes.legend(fontsize=8, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.2))
    for axes in cells[len(panels) :]:
        axes.set_axis_off()
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    if shared:
        wide = min(5, entries, 1 + 2 * columns)
        handles = _column_order(cells[0], wide)
        figure.legend(*handles, loc="outside lower center", ncols=wide, frameon=False, fontsize=9)
    return figure


def profiles(
    scores: Mapping[str, Sequence[FloatArray]],
    styles: Mapping[str, LineStyle],
    texts: Mapping[str, str],
    *,
    x_label: str = "win rate",
    title: str = "",
    seed: int = BOOTSTRAP_SEED,
) -> Figure:
    """Performance profiles: for each name, the share of runs over all tasks with a score above tau, tau from 0 to 1.

    Args:
        scores: name -> one array ``[R_m]`` of final scores for each task.
    """
    figure, axes = _figure(7.2, 4.4)
    taus = np.linspace(0, 1, 101)
    for name, tasks in scores.items():
        found = statistics.performance_profile(tasks, taus, np.random.default_rng(seed))
        style = styles[name]
        axes.plot(
            taus, found.value, drawstyle="steps-post", color=style.color, ls=style.line, label=texts.get(name, name)
        )
        axes.fill_between(taus, found.low, found.high, step="post", color=style.color, alpha=0.12, linewidth=0)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"{x_label} τ")
    axes.set_ylabel("share of runs above τ")
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    figure.legend(*_column_order(axes, 5), loc="outside lower center", ncols=5, frameon=False, fontsize=9)
    return figure


def learning_curves(
    groups: Mapping[str, Sequence[RunRecord]],
    metric: str = "eval/return",
    reference_lines: Mapping[str, float] | None = None,
    *,
    title: str = "",
    interval: statistics.Interval = "bootstrap",
    statistic: str = "mean",
    individual: bool = False,
    y_label: str | None = None,
    seed: int = BOOTSTRAP_SEED,
) -> Figure:
    """A statistic over runs with its 95% interval, per algorithm.

    Where every run has a point the line is as usual; where runs are missing it is thin and has no band, and the
    legend counts the incomplete runs: a curve never changes its population unseen.

    Args:
        groups: label -> runs of one algorithm on one environment and engine.
        metric: a metric name of the records.
        reference_lines: label -> value in the metric's unit, drawn across and named at the right edge.
        title: above the axes.
        interval: ``"bootstrap"`` (2000 resamples of whole runs) or ``"student"``.
        statistic: ``"mean"``, ``"median"`` or ``"iqm"``.
        individual: draw every run as a thin line too.
        y_label: by default from the metric and statistic.
        seed: of the bootstrap.

    Raises:
        ValueError: no records, a group mixes engines, environments or algorithms, or grids differ.
    """
    grid = _shared_grid(groups, metric)
    scale, x_label = _step_unit(grid)
    figure, axes = _figure(7.2, 4.4)
    rng = np.random.default_rng(seed)
    styles = styles_for(groups)
    for label, records in groups.items():
        if not records:
            axes.plot([], [], color=styles[label].color, linestyle=styles[label].line, label=f"{label}: no runs")
            continue
        values = align(records, metric, grid).values
        found = statistics.estimate(values, rng, statistic=statistic, interval=interval, missing="omit")
        _curve(axes, grid / scale, found, styles[label], _legend(label, values))
        if individual:
            axes.plot(grid / scale, values.T, color=styles[label].color, linewidth=0.6, alpha=0.35, zorder=2)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label or METRIC_LABELS.get(metric, metric))
    axes.set_xlim(grid.min() / scale, grid.max() / scale if len(grid) > 1 else grid.max() / scale + 1)
    axes.margins(y=0.08)
    _reference_lines(figure, axes, reference_lines or {}, horizontal=True)
    axes.set_title(title, loc="left", fontsize=11, color=INK)
    columns = min(3, len(groups))
    figure.legend(*_column_order(axes, columns), loc="outside lower center", ncols=columns, frameon=False, fontsize=9)
    return figure


def final_returns(
    groups: Mapping[str, Sequence[RunRecord]],
    metric: str = "eval/return",
    reference_lines: Mapping[str, float] | None = None,
    *,
    title: str = "",
    interval: statistics.Interval = "bootstrap",
    last: int = 1,
    seed: int = BOOTSTRAP_SEED,
) -> Figure:
    """Each run's final value as a dot, one row per algorithm; below the dots the mean with its 95% interval.

    Runs that end at the same value are stacked, so the height of a stack counts them. A run without its last
    evaluation has no dot; the row's name then says how many have one.

    Raises:
        ValueError: as ``learning_curves``.
    """
    grid = _shared_grid(groups, metric)
    figure, axes = _figure(7.2, 1.3 + 0.62 * len(groups))
    rng = np.random.default_rng(seed)
    styles = styles_for(groups)
    finals = {label: _final(records, metric, grid, last) for label, records in groups.items()}
    shown = np.concatenate([*finals.values(), np.array(list((reference_lines or {}).values()), dtype=float)])
    span = float(np.nanmax(shown) - np.nanmin(shown)) if np.isfinite(shown).any() else 0.0
    names = []
    for row, (label, final) in enumerate(finals.items()):
        present = final[~np.isnan(final)]
        names.append(f"{label}\n{_present(len(present), len(final))}")
        color = styles[label].color
        if not present.size:
            continue
        offsets = _stack(present, span / 45 or 1.0)
        axes.plot(present, row - offsets, "o", color=color, markersize=5, alpha=0.75, markeredgewidth=0, zorder=3)
        found = statistics.estimate(present, rng, interval=interval)
        axes.plot([found.low[0], found.high[0]], [row + 0.24] * 2, color=color, linewidth=2, zorder=3)
        axes.plot(found.value, [row + 0.24], "D", color="white", markeredgecolor=color, markeredgewidth=1.6, zorder=4)
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.62)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel(
        METRIC_LABELS.get(metric, metric) + (", last evaluation" if last == 1 else f", last {last} evaluations")
    )
    axes.margins(x=0.05)
    _reference_lines(figure, axes, reference_lines or {}, horizontal=False)
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    return figure


def value_tables(tables: Sequence[ValueTable], *, title: str = "", max_columns: int = 4) -> Figure:
    """Heat maps of two-agent payoff tables: the truth first, then what each algorithm learned.

    Rows are agent 1's action, columns agent 2's. The outlined cell is the greedy joint action (in the truth: every
    best one). With several runs the panel shows the run whose largest error is the median, named by its seed, since a
    mean over runs would be a table that nobody learned. Colours share one scale per payoff table, centred at 0.

    Raises:
        ValueError: no tables, a table that is not two-dimensional, or two truths under one payoff name.
    """
    payoffs = _by_payoff(tables)
    panels_most = 1 + max(map(len, payoffs.values()))
    columns = math.ceil(panels_most / math.ceil(panels_most / max_columns))  # rows of about the same length
    heights = [math.ceil((1 + len(block)) / columns) for block in payoffs.values()]
    side = 0.55 * max(3, *(size for table in tables for size in table.truth.shape))
    figure = Figure(figsize=(0.9 + (side + 0.55) * columns, 0.3 + (side + 1.05) * sum(heights)), layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=11, color=INK)
    parts = figure.subfigures(len(payoffs), 1, squeeze=False, height_ratios=heights).ravel()
    for part, height, (name, block) in zip(parts, heights, payoffs.items(), strict=True):
        part.suptitle(name if len(payoffs) > 1 else "", x=0.01, ha="left", fontsize=10, color=INK)
        panels = part.subplots(height, columns, squeeze=False).ravel()
        limit = float(np.abs(block[0].truth).max()) or 1.0
        colors = ScalarMappable(Normalize(-limit, limit), "RdBu_r")
        best = [tuple(map(int, joint)) for joint in np.argwhere(np.isclose(block[0].truth, block[0].truth.max()))]
        _heat_map(panels[0], block[0].truth, best, colors, "true payoff\n" + f"best {number(block[0].truth.max())}\n")
        for panel, table in zip(panels[1:], block, strict=False):
            run = int(np.argsort(table.errors, kind="stable")[(len(table.errors) - 1) // 2])
            _heat_map(panel, table.learned[run], [table.greedy[run]], colors, _panel_title(table, run))
        for panel in panels[1 + len(block) :]:
            panel.set_axis_off()
        part.colorbar(colors, ax=panels.tolist(), shrink=0.8, extend=_extend(block, limit), label="joint value")
    return figure


def curve_caption(statistic: str = "mean", interval: statistics.Interval = "bootstrap") -> str:
    """The caption that ``learning_curves`` needs: how its interval was made and what a thin line means."""
    return (
        f"Line and band: {statistics.method(statistic, interval)}. A thin line without a band: some runs have no "
        "evaluation there, and the line shows the others."
    )


def final_caption(interval: statistics.Interval = "bootstrap") -> str:
    """The caption that ``final_returns`` needs."""
    return (
        f"A dot is one run; runs with equal values are stacked. Diamond and bar: {statistics.method('mean', interval)}."
    )


def save(figure: Figure, path_stem: Path) -> tuple[Path, Path]:
    """Write ``path_stem.svg`` and ``path_stem.png`` (150 dpi) atomically and reproducibly; returns both paths."""
    stem = Path(path_stem)
    paths = stem.with_name(stem.name + ".svg"), stem.with_name(stem.name + ".png")
    for path, data in zip(paths, (svg_bytes(figure), _render(figure, "png", dpi=150)), strict=True):
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
    return paths


def svg_bytes(figure: Figure) -> bytes:
    """The figure as SVG with text as outlines, without a date or random identifiers."""
    return _render(figure, "svg", metadata={"Date": None})


def _render(figure: Figure, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    with matplotlib.rc_context(
        {"svg.hashsalt": "smix_pz", "svg.fonttype": "path"}
    ):  # no argument of savefig sets these
        figure.savefig(out, format=kind, facecolor="white", **options)
    return out.getvalue()


# --- parts of the curve figures -----------------------------------------------------------------------------------


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.add_subplot()
    _style_axes(axes)
    return figure, axes


def _style_axes(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9)
    axes.grid(color="#e4e4e4", linewidth=0.7)
    axes.set_axisbelow(True)


def _curve(
    axes: Axes, x: FloatArray, found: statistics.Estimate, style: LineStyle, label: str, width: float = 2
) -> None:
    whole = np.where(found.complete, found.value, np.nan)
    # The thin line starts at the last complete point before a gap and ends at the first one after, so none opens.
    lacking = np.pad(~found.complete, 1)
    around = lacking[:-2] | lacking[1:-1] | lacking[2:]
    axes.plot(x, np.where(around, found.value, np.nan), color=style.color, linewidth=0.9, zorder=3)
    marker = "o" if np.isfinite(whole).sum() == 1 else ""  # a single point draws no line
    axes.plot(x, whole, marker=marker, ls=style.line, color=style.color, linewidth=width, label=label, zorder=4)
    band = found.complete & np.isfinite(found.low)
    axes.fill_between(x, found.low, found.high, where=band.tolist(), color=style.color, alpha=0.18, linewidth=0)


def _legend(label: str, values: FloatArray) -> str:
    runs, incomplete = len(values), int(np.isnan(values).any(axis=1).sum())
    parts = [f"{runs} run" + ("s" if runs != 1 else "")]
    parts += [f"{incomplete} incomplete"] if incomplete else []
    parts += ["no interval"] if runs == 1 else []
    return f"{label}: {', '.join(parts)}"


def _column_order(axes: Axes, columns: int) -> tuple[list[Any], list[str]]:
    """Handles and labels in the order that makes a legend of several columns read along its rows."""
    handles, labels = axes.get_legend_handles_labels()
    rows = math.ceil(len(labels) / columns) if columns else 0
    order = [r * columns + c for c in range(columns) for r in range(rows) if r * columns + c < len(labels)]
    return [handles[k] for k in order], [labels[k] for k in order]


def _reference_lines(figure: Figure, axes: Axes, lines: Mapping[str, float], *, horizontal: bool) -> None:
    """Dashed lines, named outside the axes: at the right edge of horizontal ones, above vertical ones."""
    ordered = sorted(lines.items(), key=lambda item: item[1])
    for _, value in ordered:
        draw = axes.axhline if horizontal else axes.axvline
        draw(value, color=FAINT, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    low, high = axes.get_ylim() if horizontal else axes.get_xlim()
    places = _spread([(value - low) / (high - low) for _, value in ordered], 0.055 if horizontal else 0.16)
    for (label, value), place in zip(ordered, places, strict=True):
        text = f"{label} = {number(value)}"
        spot, ha, va = ((1.012, place), "left", "center") if horizontal else ((place, 1.01), "center", "bottom")
        axes.text(*spot, text, ha=ha, va=va, transform=axes.transAxes, fontsize=8.5, color=FAINT)


def _spread(places: Sequence[float], gap: float) -> list[float]:
    """Increasing places, moved apart to be at least ``gap`` from each other, each group about its centre."""
    groups: list[list[float]] = []
    for place in places:
        groups.append([place])
        while len(groups) > 1 and _first(groups[-1], gap) < _first(groups[-2], gap) + gap * len(groups[-2]):
            last = groups.pop()
            groups[-1] += last
    return [_first(group, gap) + gap * k for group in groups for k in range(len(group))]


def _first(group: Sequence[float], gap: float) -> float:
    return sum(group) / len(group) - gap * (len(group) - 1) / 2


def _stack(values: FloatArray, width: float) -> FloatArray:
    """Upward offsets ``[R]`` in rows' units: values in the same bin of ``width`` stand on top of each other."""
    bins = np.round(values / width).astype(int)
    highest = max(Counter(bins.tolist()).values())
    step = min(0.105, 0.55 / max(1, highest - 1))
    offsets, seen = np.zeros(len(values)), Counter[int]()
    for index in np.argsort(values, kind="stable"):
        offsets[index] = step * seen[int(bins[index])]
        seen[int(bins[index])] += 1
    return offsets


def _final(records: Sequence[RunRecord], metric: str, grid: FloatArray, last: int) -> FloatArray:
    if not records:
        return np.empty(0)
    return statistics.final_value(align(records, metric, grid).values, last)


def _present(n: int, runs: int) -> str:
    return f"{n} run" + ("s" if n != 1 else "") if n == runs else f"{n} of {runs} runs"


def _shared_grid(groups: Mapping[str, Sequence[RunRecord]], metric: str) -> FloatArray:
    """Check every group, and return the grid of all of them."""
    for label, records in groups.items():
        check_group(label, records)
    return common_grid([record for records in groups.values() for record in records], metric)


def _step_unit(grid: FloatArray) -> tuple[float, str]:
    fitting = ((scale, label) for least, scale, label in STEP_UNITS if grid.max() >= least)
    return next(fitting, (1.0, "environment steps"))


# --- parts of the value tables ------------------------------------------------------------------------------------


def _by_payoff(tables: Sequence[ValueTable]) -> dict[str, list[ValueTable]]:
    if not tables:
        raise ValueError("no value tables: expected at least one")
    payoffs: dict[str, list[ValueTable]] = {}
    for table in tables:
        if table.truth.ndim != 2:
            raise ValueError(
                f"{table.payoff_name!r} has shape {table.truth.shape}; heat maps show two agents, "
                "for more use tables.expressivity_table"
            )
        block = payoffs.setdefault(table.payoff_name, [table])
        if not np.array_equal(block[0].truth, table.truth):
            raise ValueError(f"{table.payoff_name!r} names two different payoff tables")
        if block[0] is not table:
            block.append(table)
    return payoffs


def _heat_map(
    axes: Axes, values: FloatArray, outlined: Sequence[tuple[int, ...]], colors: ScalarMappable, title: str
) -> None:
    shades = colors.to_rgba(values)
    axes.imshow(shades, aspect="equal")
    for (row, column), value in np.ndenumerate(values):
        light = float(shades[row, column, :3] @ (0.299, 0.587, 0.114)) > 0.55
        text = number(value, 1 if abs(value) >= 10 else 2)
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=INK if light else "white")
    for row, column in outlined:
        for color, width in (("white", 4.5), ("black", 2.2)):  # black on white is seen on every shade
            box = Rectangle((column - 0.45, row - 0.45), 0.9, 0.9, fill=False, edgecolor=color, linewidth=width)
            axes.add_patch(box)
    axes.set_xticks(range(values.shape[1]))
    axes.set_yticks(range(values.shape[0]))
    axes.tick_params(length=0, labelsize=8, colors=FAINT)
    axes.spines[:].set_visible(False)
    axes.set_title(title, fontsize=9, color=INK, loc="left")


def _panel_title(table: ValueTable, run: int) -> str:
    """Three lines: algorithm; error of the run shown; over all runs, how often greedy play is optimal."""
    runs = len(table.learned)
    greedy = {
        True: "greedy is optimal" if table.optimal[run] else "greedy is not optimal",
        False: f"greedy optimal in {int(table.optimal.sum())} of {runs}",
    }[runs == 1]
    of = "" if runs == 1 else f", seed {table.seeds[run]}"
    return f"{table.algorithm}{of}\nlargest error {number(table.errors[run])}\n{greedy}"


def _extend(block: Sequence[ValueTable], limit: float) -> Any:
    learned = np.concatenate([table.learned.ravel() for table in block])
    beyond = bool(learned.min() < -limit), bool(learned.max() > limit)
    return {(False, False): "neither", (True, False): "min", (False, True): "max", (True, True): "both"}[beyond]
