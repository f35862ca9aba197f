"""The curve viewer: its data, the page's policy, and its code, run by Node on a document of a few lines."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import run, runs

from smix_pz.benchmarks import plots
from smix_pz.benchmarks.report import CurvesSection, viewer_data, write_report

HOSTILE = "</script><script>alert(1)</script>"
TASKS = {
    "3m": {
        "smix": runs("smix", [1.0, 0.5, 0.75]),
        "qmix": [run("qmix", 0, [0.0, 0.25, 0.5]), run("qmix", 1, [0.0, 0.75])],
    },
    HOSTILE: {"smix": runs("smix", [0.25] * 2, "8m"), "qmix": []},
}


def data() -> dict[str, Any]:
    texts = {"smix": "SMIX(λ)", "qmix": "QMIX"}
    return viewer_data(TASKS, ("eval/win_rate", "eval/return"), texts, plots.panel_styles(texts))


def page(folder: Path) -> str:
    return write_report(folder, "t", [CurvesSection("Curves", "c", data())]).read_text()


def test_data_by_hand() -> None:
    made = data()
    smix, qmix = (made["tasks"][0]["curves"][name]["eval/win_rate"] for name in ("smix", "qmix"))
    assert (
        smix["x"] == [0, 20_000, 40_000]
        and smix["mean"] == [0, 0.375, 0.75]
        and (smix["n"], smix["of"]) == ([3] * 3, 3)
    )
    assert smix["low"][2] <= 0.75 <= smix["high"][2] and len(smix["runs"]) == 3
    # Where a run is missing the mean is of the others, and n says so; one run has no interval.
    assert (qmix["mean"], qmix["n"], qmix["low"][2], qmix["runs"][1]) == (
        [0, 0.5, 0.5],
        [2, 2, 1],
        None,
        [0, 0.75, None],
    )
    assert made["tasks"][1]["curves"].keys() == {"smix"}
    dashes = {curve["name"]: (curve["color"], curve["dash"]) for curve in made["curves"]}
    assert dashes["smix"] == (plots.ALGORITHM_STYLES["smix"].color, "none") and dashes["qmix"][1] != "none"


def test_the_page_runs_this_script_and_no_other(tmp_path: Path) -> None:
    text = page(tmp_path)
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", text, re.S)
    assert [bool(attributes) for attributes, _ in scripts] == [True, False]  # data, code
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in text and "default-src 'none'" in text
    assert json.loads(scripts[0][1]) == data() and HOSTILE not in text
    code = scripts[1][1]
    assert not re.search(r"innerHTML|fetch|XMLHttp|import\(|eval\(|document\.write", code)
    assert set(re.findall(r"https?://[^\"'\s]*", code)) == {"http://www.w3.org/2000/svg"}  # a name, never loaded


def test_one_viewer_on_a_page(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="2 curve viewers"):
        write_report(tmp_path, "t", [CurvesSection("a", "", data()), CurvesSection("b", "", data())])


DOCUMENT = """
class Node {
  constructor(name) {
    Object.assign(this, { name, children: [], attributes: {}, listeners: {}, text: "", value: "0" });
  }
  append(...more) { this.children.push(...more); }
  replaceChildren(...more) { this.children = more; }
  insertBefore(one, other) { this.children.splice(this.children.indexOf(other), 0, one); }
  get firstChild() { return this.children[0]; }
  get lastChild() { return this.children[this.children.length - 1]; }
  setAttribute(key, value) { this.attributes[key] = String(value); }
  addEventListener(kind, act) { this.listeners[kind] = act; }
  getBoundingClientRect() { return { left: 0, top: 0, width: 860, height: 420 }; }
  set textContent(text) { this.text = text; }
  get textContent() {
    return this.text + this.children.map((c) => typeof c === "string" ? c : c.textContent).join("|");
  }
}
const root = new Node("div");
const source = new Node("script");
source.text = process.argv[2];
globalThis.document = {
  getElementById: (id) => id === "viewer" ? root : source,
  createElement: (name) => new Node(name),
  createElementNS: (space, name) => new Node(name),
};
const find = (node, name, found = []) => {
  if (node.name === name) found.push(node);
  node.children.filter((c) => typeof c !== "string").forEach((c) => find(c, name, found));
  return found;
};
"""
SCENE = """
const said = [];
const [controls, legend, picture, about, values] = root.children;
const rows = () => values.children.slice(1).map((row) => row.textContent);
said.push(rows());                                        // at the end of training
picture.listeners.pointermove({ clientX: 62 + (860 - 62 - 14) * 0.45 });  // nearest to 20,000
said.push([values.children[0].textContent], rows());
const boxes = find(legend, "input");
boxes[0].checked = false; boxes[0].listeners.change();    // without SMIX
said.push(rows(), find(picture, "path").length);
const [task, metric] = find(controls, "select");
task.value = "1"; task.listeners.change();                // SMIX has runs there, QMIX none
said.push(rows(), find(picture, "text").map((t) => t.text).slice(-1));
find(legend, "button")[0].listeners.click();              // all
metric.value = "eval/return"; metric.listeners.change();
said.push(rows());
console.log(JSON.stringify(said));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node runs the viewer's code here")
def test_the_code_shows_the_numbers_under_the_pointer(tmp_path: Path) -> None:
    code = resources.files("smix_pz.benchmarks").joinpath("templates/viewer.js").read_text("utf-8")
    script = tmp_path / "scene.js"
    script.write_text(DOCUMENT + code.replace('"use strict";', "", 1) + SCENE)
    done = subprocess.run(["node", str(script), json.dumps(data())], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    end, head, middle, without, paths, nothing, words, returns = json.loads(done.stdout)
    assert end[0].startswith("| SMIX(λ)|75.0%|50.0% to 100.0%|3") and end[1] == "| QMIX|50.0%|–|1 of 2"
    assert head[0].startswith("step 20,000") and middle[0].startswith("| QMIX|50.0%|25.0% to 75.0%|2")
    assert middle[1].startswith("| SMIX(λ)|37.5%")
    assert [row.split("|")[1] for row in without] == [" QMIX"] and paths == 2  # its band and its line
    assert nothing == [] and words == ["no curves chosen, or no runs yet"]
    assert returns == ["| SMIX(λ)|5.00|5.00 to 5.00|2"]


def test_styles_are_the_papers() -> None:
    styles = plots.panel_styles(["smix", "qmix", "coma-r", "coma", "vdn-r", "vdn", "iql-r", "iql", "qtran-r", "qtran"])
    for new, old in (("smix", "qmix"), ("coma-r", "coma"), ("vdn-r", "vdn"), ("iql-r", "iql"), ("qtran-r", "qtran")):
        assert styles[new].color == styles[old].color and (styles[new].line, styles[old].line) == ("-", "--")
    assert len({style.color for style in styles.values()}) == 5


def panel(title: str, groups: Any, texts: dict[str, str]) -> plots.CurvePanel:
    return plots.CurvePanel(title, groups, plots.panel_styles(texts), texts)


def test_panels_draw_percent_and_keep_empty_places() -> None:
    texts = {"smix": "SMIX(λ)", "qmix": "QMIX"}
    empty = {"smix": [], "qmix": []}
    figure = plots.curve_panels([panel("3m", TASKS["3m"], texts), panel("8m", empty, texts)], columns=3)
    first, second = figure.axes
    lines = {str(line.get_label()): line for line in first.lines}
    np.testing.assert_allclose(lines["SMIX(λ)"].get_ydata(), [0, 37.5, 75])
    np.testing.assert_allclose(lines["QMIX"].get_ydata(), [0, 50, np.nan])
    assert (
        first.get_title() == "(a) 3m" and second.get_title() == "(b) 8m" and second.get_title("right") == "no runs yet"
    )
    assert len(figure.legends) == 1  # both panels show the same curves
    other = panel("8m", TASKS["3m"], {"smix": "λ = 0.8"})
    figure = plots.curve_panels([panel("3m", TASKS["3m"], texts), other])
    assert not figure.legends and all(axes.get_legend() is not None for axes in figure.axes)
    with pytest.raises(ValueError, match="no panels"):
        plots.curve_panels([])


def test_profiles_are_the_statistics() -> None:
    scores = {"smix": [np.array([0.0, 0.5]), np.array([1.0, 1.0])]}
    figure = plots.profiles(scores, plots.panel_styles(scores), {})
    (line,) = figure.axes[0].lines
    shares = dict(
        zip(np.round(np.asarray(line.get_xdata(), dtype=float), 2), np.asarray(line.get_ydata()), strict=True)
    )
    assert (shares[0.0], shares[0.49], shares[0.5], shares[1.0]) == (0.75, 0.75, 0.5, 0.0)
