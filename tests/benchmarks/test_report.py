"""Reports: read back as a browser would, with hostile names, and looked through for anything that leaves the page."""

from __future__ import annotations

import base64
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from smix_pz.benchmarks import plots, report
from smix_pz.benchmarks.tables import ValueTable, expressivity_table, summary_table
from smix_pz.records import RunRecord

HOSTILE = "<script>alert('x')</script>\" onload=\"y & z"
VOID = {"meta", "img", "br", "link", "hr", "input"}


def run(seed: int, values: list[float], finished: bool = True, **header: object) -> RunRecord:
    metrics = tuple({"t_env": 10 * k + 3, "step": 10 * k, "eval/return": value} for k, value in enumerate(values))
    about = {
        "algorithm": "smix",
        "env": "toy",
        "env_kwargs": {"m": 5},
        "engine": {"name": "toy", "version": "1.2"},
        "seed": seed,
        "config": {"hyper": {"parallel_episodes": 4, "updates_per_group": 2}},
        "versions": {"torch": "2.9", "numpy": "2.1"},
        "git_commit": "abc1234",
        "stacked_with": 3,
        "machine": {"cores": 4},
        **header,
    }
    return RunRecord(about, metrics, finished, {"wall_seconds": 90.0} if finished else {})


RUNS = [run(0, [0, 8]), run(1, [0, 5]), run(2, [1], finished=False)]


class Page(HTMLParser):
    """Text, attributes and properly nested tags of a page."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(path.read_text())
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def values(self, *names: str) -> list[str]:
        return [value for _, name, value in self.attributes if name in names]


def sections(label: str = "smix") -> list[report.Section]:
    table = summary_table({label: RUNS}, threshold=8, planned=range(5), title=label)
    truth = np.array([[8.0, -12.0], [-12.0, 0.0]])
    errors = expressivity_table([ValueTable(label, "climb", truth, truth + 0.25, ((0, 0),))])
    return [
        report.TextSection("Notes", "First\nline.\n\nSecond paragraph."),
        report.ClaimsSection("Claims", [report.Claim(f"{label} wins", "holds in part", "1 of 2 runs end at 8")]),
        report.FigureSection("Curves", plots.learning_curves({label: RUNS}), plots.curve_caption(), "curves"),
        report.TableSection("Summary", table, f"Caption of {label}.", "summary"),
        report.TableSection("Errors", errors, "", "errors"),
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "out"
    links = {"records": folder / "records", "plain": "data/all 1.csv"}
    about = report.provenance(RUNS, "2 CPUs")
    return report.write_report(
        folder,
        f"Title {HOSTILE}",
        sections(HOSTILE),
        provenance=about,
        command="smix-pz study toy --out <here>",
        warnings=report.unfinished(RUNS),
        links=links,
    )


def test_the_page_needs_nothing_from_anywhere(written: Path) -> None:
    page = Page(written)
    assert not {"script", "link", "iframe", "object"} & set(page.tags)
    for value in page.values("src", "href", "srcset", "action"):
        assert value.startswith("data:image/svg+xml;base64,") or not ("//" in value or ":" in value or value[0] == "/")
    source = written.read_text()
    assert "http://" not in source and "https://" not in source
    assert "url(" not in source and "@import" not in source and str(written.parent) not in source


def test_hostile_names_are_text(written: Path) -> None:
    page = Page(written)
    assert f"Title {HOSTILE}" in page.text and f"{HOSTILE} wins" in page.text
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert "<script>" not in written.read_text()


def test_every_figure_and_cell_is_there(written: Path) -> None:
    page = Page(written)
    pictures = [value for value in page.values("src") if value.startswith("data:")]
    svg = base64.b64decode(pictures[0].split(",")[1])
    assert len(pictures) == 1 and svg == (written.parent / "figures" / "curves.svg").read_bytes()
    for section in sections(HOSTILE):
        if isinstance(section, report.TableSection):
            for row in section.table.text_rows():
                for cell in row:
                    assert " ".join(cell.split()) in page.text
    assert "2000 resamples" in page.text and "6.50 [5.00, 8.00]" in page.text
    assert "First line." in page.text and "holds in part" in page.text


def test_missing_seeds_are_in_the_warning_box(written: Path) -> None:
    source = written.read_text()
    box = source[source.index('<section class="warnings"') :].split("</section>")[0]
    assert "no record: 3, 4; unfinished: 2" in box and "seed 2 did not finish; its record ends at step 3" in box


def test_a_complete_report_has_no_warning_box(tmp_path: Path) -> None:
    table = summary_table({"smix": RUNS[:2]})
    path = report.write_report(tmp_path, "Fine", [report.TableSection("Summary", table, "", "summary")])
    assert 'class="warnings"' not in path.read_text()
    Page(path)


def test_links_and_files_are_beside_the_page(written: Path) -> None:
    hrefs = Page(written).values("href")
    assert {"records", "data/all%201.csv"} <= set(hrefs)
    for name in ("figures/curves.svg", "figures/curves.png", "tables/summary.csv", "tables/errors.md"):
        assert name in hrefs and (written.parent / name).stat().st_size > 0
    assert not [path for path in written.parent.rglob(".*")]  # no temporary file is left


def test_provenance_says_what_made_the_numbers() -> None:
    about = report.provenance(RUNS, "2 CPUs")
    assert about["engine and rules"] == "toy 1.2" and about["environment"] == "toy (m=5)"
    assert (about["parallel episodes"], about["updates per group"]) == ("4", "2")
    assert about["seeds"] == "0–2" and about["runs"] == "2 finished of 3 with a record"
    assert about["package versions"] == "torch 2.9, numpy 2.1" and about["git commit"] == "abc1234"
    assert about["wall time"] == "1 min for 2 finished runs" and about["machine"] == "2 CPUs"
    assert report.provenance(RUNS)["machine"] == "cores 4"


def test_provenance_lists_what_differs() -> None:
    about = report.provenance([*RUNS, run(3, [0, 1], git_commit="fff", versions=None)])
    assert about["git commit"] == "abc1234 (3 runs); fff (1 run)"
    assert about["package versions"] == "torch 2.9, numpy 2.1 (3 runs); not stated (1 run)"


@pytest.mark.parametrize(
    ("names", "message"),
    [(["../../x"], "try 'x'"), (["a b"], "try 'a-b'"), (["a", "A"], "2 sections .* named 'a'"), ([".hidden"], "plain")],
)
def test_section_names_are_file_names(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report.write_report(tmp_path, "t", [report.FigureSection("f", Figure(), "", name) for name in names])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("target", ["http://example.org/x", "//example.org", "javascript:alert(1)"])
def test_links_stay_on_the_machine(tmp_path: Path, target: str) -> None:
    with pytest.raises(ValueError, match="is an address"):
        report.write_report(tmp_path, "t", [], links={"x": target})


def test_verdicts_are_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'does not hold'"):
        report.Claim("c", "does not holds", "e")


def test_the_same_report_twice_has_the_same_bytes(tmp_path: Path) -> None:
    pages = [report.write_report(tmp_path / name, "t", sections()).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]
