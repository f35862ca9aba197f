"""Reports: one HTML file that needs nothing else, with its figures and tables as files beside it.

``write_report`` makes::

    folder/report.html         figures inline (SVG as data), styles inline, no request to anywhere
    folder/figures/*.svg *.png
    folder/tables/*.csv *.md *.tex

The page has no script, or one: the curve viewer's, inline. The page's policy allows that text by its hash, no other.

A report says what made its numbers (``provenance``) and what is missing from them (warnings of its tables, and the
caller's) before it shows any. Every file is written whole or not at all; the page comes last, so that it never points
at a file that is not there.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

import jinja2
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from smix_pz.benchmarks import plots
from smix_pz.benchmarks.alignment import align, common_grid, describe, engine_label
from smix_pz.benchmarks.statistics import estimate, method
from smix_pz.benchmarks.table import Table, number, ranges
from smix_pz.benchmarks.tables import BOOTSTRAP_SEED
from smix_pz.files import write_text
from smix_pz.names import check_name
from smix_pz.records import RunRecord, plain

VERDICTS: Mapping[str, str] = {  # verdict -> its mark in the page
    "holds": "good",
    "holds in part": "fair",
    "does not hold": "bad",
    "undecided": "fair",
    "not tested": "none",
}
# Settings that change sample efficiency or the size of the study, looked for anywhere in the resolved config.
REGIME = ("steps", "parallel_episodes", "updates_per_group", "batch_size", "eval_every", "eval_episodes")


@dataclass(frozen=True)
class TextSection:
    """Paragraphs, separated by blank lines; plain text."""

    title: str
    text: str

    @property
    def paragraphs(self) -> list[str]:
        """The paragraphs, each without line breaks."""
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class FigureSection:
    """A figure; ``caption`` says how its interval was computed, ``name`` is its file's name without ending."""

    title: str
    figure: Figure
    caption: str
    name: str


@dataclass(frozen=True)
class TableSection:
    """A table; its notes follow the caption, ``name`` is its file's name without ending."""

    title: str
    table: Table
    caption: str
    name: str


@dataclass(frozen=True)
class Claim:
    """A claim that the study tests.

    Attributes:
        text: what the source says.
        verdict: a key of ``VERDICTS``.
        evidence: what was measured here.

    Raises:
        ValueError: another verdict; the nearest is named.
    """

    text: str
    verdict: str
    evidence: str

    def __post_init__(self) -> None:
        check_name("verdict", self.verdict, VERDICTS)


@dataclass(frozen=True)
class ClaimsSection:
    """Claims of the paper beside what was found."""

    title: str
    claims: Sequence[Claim]


@dataclass(frozen=True)
class CurvesSection:
    """The interactive curve viewer, at most one on a page; ``data`` as ``viewer_data`` makes it."""

    title: str
    caption: str
    data: Mapping[str, Any]


Section = CurvesSection | TextSection | FigureSection | TableSection | ClaimsSection


def write_report(
    folder: Path,
    title: str,
    sections: Sequence[Section],
    *,
    provenance: Mapping[str, str] | None = None,
    command: str = "",
    warnings: Sequence[str] = (),
    links: Mapping[str, str | Path] | None = None,
    summary: str | Sequence[str] = "",
) -> Path:
    """Write a report with its figures and tables; returns the path of the HTML file.

    Args:
        folder: where; made if need be. Files of the same names are replaced.
        title: heading.
        sections: in order of appearance.
        provenance: what made the numbers; see ``provenance(records)``.
        command: the command line that makes them again.
        warnings: what is missing, besides the warnings of the tables, which are added.
        links: text -> a file, relative to ``folder`` or inside it or near it; kept relative.
        summary: a paragraph, or several, under the title.

    Raises:
        ValueError: a name that is no plain file name or occurs twice, or a link to a network address.
    """
    folder = Path(folder)
    _check_names(sections)
    hrefs = {text: _relative(folder, target) for text, target in (links or {}).items()}
    parts = [_PARTS[type(section)](folder, section) for section in sections]
    found = [text for section in sections if isinstance(section, TableSection) for text in section.table.warnings]
    curves = [section for section in sections if isinstance(section, CurvesSection)]
    if len(curves) > 1:
        raise ValueError(f"{len(curves)} curve viewers; a page has room for one")
    page = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=title,
            summary=[text for text in ([summary] if isinstance(summary, str) else summary) if text],
            script=_script(curves[0]) if curves else None,
            provenance=provenance or {},
            command=command,
            warnings=list(dict.fromkeys([*warnings, *found])),
            links=hrefs,
            parts=parts,
        )
    )
    path = folder / "report.html"
    write_text(path, page)
    return path


def provenance(records: Iterable[RunRecord], machine: str = "") -> dict[str, str]:
    """What made the records' numbers, read from their headers: heading -> text.

    Where runs differ, every value is listed with the number of runs that have it. ``machine`` replaces what the
    headers say of it.

    Raises:
        ValueError: no records.
    """
    runs = list(records)
    if not runs:
        raise ValueError("no records: provenance is read from the headers of at least one run")
    rows = {
        "engine and rules": _tally(runs, engine_label),
        "environment": _tally(runs, _environment_label),
        "algorithms": ", ".join(sorted({str(run.run.get("algorithm", "?")) for run in runs})),
        "seeds": ranges({int(run.run["seed"]) for run in runs if run.run.get("seed") is not None}),
        "runs": f"{sum(run.finished for run in runs)} finished of {len(runs)} with a record",
        **{name: _tally(runs, _setting(name)) for name in REGIME},
        "package versions": _tally(runs, lambda run: _pairs(run.run.get("versions"))),
        "git commit": _tally(runs, lambda run: run.run.get("git_commit")),
        "wall time": _wall_time(runs),
        "machine": machine or _tally(runs, lambda run: _pairs(run.run.get("machine"))),
    }
    return {name.replace("_", " "): text for name, text in rows.items() if text}


# --- sections -----------------------------------------------------------------------------------------------------


def _text_part(folder: Path, section: TextSection) -> dict[str, Any]:
    return {"kind": "text", "title": section.title, "paragraphs": section.paragraphs}


def _claims_part(folder: Path, section: ClaimsSection) -> dict[str, Any]:
    return {"kind": "claims", "title": section.title, "claims": section.claims, "marks": VERDICTS}


def _figure_part(folder: Path, section: FigureSection) -> dict[str, Any]:
    paths = plots.save(section.figure, folder / "figures" / section.name)
    # As an image, not as markup: identifiers inside one SVG cannot collide with those of the next.
    data = base64.b64encode(paths[0].read_bytes()).decode()
    source = f"data:image/svg+xml;base64,{data}"
    return {
        "kind": "figure",
        "title": section.title,
        "caption": section.caption,
        "src": source,
        **_files(folder, paths),
    }


def _table_part(folder: Path, section: TableSection) -> dict[str, Any]:
    files = _files(folder, section.table.save(folder / "tables" / section.name))
    return {"kind": "table", "title": section.title, "caption": section.caption, "table": section.table, **files}


def _curves_part(folder: Path, section: CurvesSection) -> dict[str, Any]:
    return {"kind": "curves", "title": section.title, "caption": section.caption}


def _script(section: CurvesSection) -> dict[str, Any]:
    """The viewer's code with the hash for the page's policy, and its data, as text that cannot end its element."""
    code = resources.files("smix_pz.benchmarks").joinpath("templates/viewer.js").read_text("utf-8")
    data = json.dumps(plain(section.data), allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    for mark in "<>&":
        data = data.replace(mark, f"\\u{ord(mark):04x}")
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    return {"code": Markup(code), "data": Markup(data), "hash": f"sha256-{digest}"}


def viewer_data(
    tasks: Mapping[str, Mapping[str, Sequence[RunRecord]]],
    metrics: Sequence[str],
    texts: Mapping[str, str],
    styles: Mapping[str, plots.LineStyle],
    *,
    seed: int = BOOTSTRAP_SEED,
) -> dict[str, Any]:
    """What the curve viewer shows: for every task, curve and metric the mean over runs, its 95% interval, and each run.

    Args:
        tasks: task -> curve -> runs. texts, styles: of every curve, in the order of the legend.
    """
    dashes = {"-": "none", "--": "8 5", ":": "2 4", "-.": "8 4 2 4"}
    shown = []
    for task, groups in tasks.items():
        records = [record for runs in groups.values() for record in runs]
        curves: dict[str, dict[str, Any]] = {}
        for metric in metrics:
            there = {name: runs for name, runs in groups.items() if any(r.series(metric)[0] for r in runs)}
            if not there:
                continue
            grid = common_grid([record for runs in there.values() for record in runs], metric)
            for name, runs in there.items():
                values = align(runs, metric, grid).values
                found = estimate(values, np.random.default_rng(seed), missing="omit")
                curves.setdefault(name, {})[metric] = {
                    "x": grid.astype(int).tolist(),
                    **{key: _rounded(getattr(found, end)) for key, end in _ENDS.items()},
                    "n": found.n.tolist(),
                    "of": len(runs),
                    "runs": [_rounded(row) for row in values],
                }
        engines = "; ".join(dict.fromkeys(engine_label(record) for record in records))
        shown.append({"name": task, "engine": engines, "curves": curves})
    return {
        "tasks": shown,
        "curves": [
            {"name": name, "text": text, "color": styles[name].color, "dash": dashes.get(styles[name].line, "none")}
            for name, text in texts.items()
        ],
        "metrics": [
            {"name": name, "label": plots.METRIC_LABELS.get(name, name), "percent": name == "eval/win_rate"}
            for name in metrics
        ],
        "note": method("mean", "bootstrap"),
    }


_ENDS = {"mean": "value", "low": "low", "high": "high"}


def _rounded(values: Any) -> list[float | None]:
    """Four significant digits more than anyone sees; missing is null."""
    return [None if np.isnan(value) else float(f"{value:.5g}") for value in values]


_PARTS: Mapping[type, Callable[[Path, Any], dict[str, Any]]] = {
    TextSection: _text_part,
    ClaimsSection: _claims_part,
    FigureSection: _figure_part,
    TableSection: _table_part,
    CurvesSection: _curves_part,
}


def _files(folder: Path, paths: Sequence[Path]) -> dict[str, Any]:
    return {"files": {path.suffix[1:].upper(): _relative(folder, path) for path in paths}}


def _check_names(sections: Sequence[Section]) -> None:
    named = [section for section in sections if isinstance(section, (FigureSection, TableSection))]
    for section in named:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", section.name):
            near = re.sub(r"[^A-Za-z0-9_-]+", "-", section.name).strip("-") or "figure-1"
            raise ValueError(f"{section.name!r} is no plain file name (letters, digits, '_', '-', '.'); try {near!r}")
    seen = Counter((type(section).__name__, section.name.lower()) for section in named)
    for (kind, name), count in seen.items():
        if count > 1:
            raise ValueError(f"{count} sections of kind {kind} are named {name!r}; each needs a file name of its own")


def _relative(folder: Path, target: str | Path) -> str:
    """A link that still works when the folder is moved with its neighbours."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:|//", str(target)):
        raise ValueError(f"{str(target)!r} is an address; a report links to files beside it, such as 'records/'")
    path = Path(target)
    if path.is_absolute():
        path = Path(os.path.relpath(path, folder.resolve()))
    return quote(path.as_posix())


def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("smix_pz.benchmarks", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


# --- provenance ---------------------------------------------------------------------------------------------------


def _tally(runs: Sequence[RunRecord], of: Callable[[RunRecord], Any]) -> str:
    """The value that all runs share, or each value with its number of runs; empty where no run states one."""
    values = [of(run) for run in runs]
    counts = Counter("not stated" if value in (None, "") else str(value) for value in values)
    if set(counts) == {"not stated"}:
        return ""
    if len(counts) == 1:
        return next(iter(counts))
    return "; ".join(f"{value} ({count} run{'s' if count > 1 else ''})" for value, count in counts.items())


def _environment_label(run: RunRecord) -> str:
    arguments = _pairs(run.run.get("env_kwargs"), "=")
    return str(run.run.get("env", "")) + (f" ({arguments})" if arguments else "")


def _pairs(values: Any, between: str = " ") -> str:
    if not isinstance(values, Mapping):
        return str(values or "")
    return ", ".join(f"{key}{between}{value}" for key, value in values.items())


def _setting(name: str) -> Callable[[RunRecord], Any]:
    return lambda run: _find(run.run.get("config"), name)


def _find(config: Any, name: str) -> Any:
    """The setting ``name`` in a config or in one nested in it."""
    if not isinstance(config, Mapping):
        return None
    if name in config:
        return config[name]
    nested = (_find(value, name) for value in config.values())
    return next((value for value in nested if value is not None), None)


def _wall_time(runs: Sequence[RunRecord]) -> str:
    """Of all finished runs together: runs stacked in one program each state the time of all, so each has its share."""
    timed = [run for run in runs if run.end.get("wall_seconds") is not None]
    shares = [float(run.end["wall_seconds"]) / int(run.run.get("stacked_with") or 1) for run in timed]
    return f"{_duration(sum(shares))} for {len(timed)} finished runs" if timed else ""


def _duration(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{number(seconds / size, 1)} {unit}"
    return f"{number(seconds, 1)} s"


def unfinished(records: Iterable[RunRecord]) -> tuple[str, ...]:
    """A warning for each run that did not finish, with the last step it reached."""
    texts = []
    for record in records:
        if not record.finished:
            last = max((row["t_env"] for row in record.metrics), default=0)
            texts.append(f"{describe(record)} did not finish; its record ends at step {last:,}")
    return tuple(texts)
