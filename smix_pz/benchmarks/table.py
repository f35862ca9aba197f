"""What a table is, and how it is written: as CSV, Markdown, LaTeX and terminal text (HTML by ``report``).

A row holds raw values under plain names; a column says which of them it shows and how. CSV gets the raw values, so
nothing is lost to rounding; people get the formatted text.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from rich.table import Table as RichTable
from rich.text import Text

from smix_pz.files import write_text

Align = Literal["left", "right"]

ABSENT = "–"
NBSP = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True)
class Column:
    """One column as people see it.

    Attributes:
        title: the heading.
        keys: the raw values it shows; CSV has one column for each.
        text: raw values -> cell text.
        align: numbers right, words left.
    """

    title: str
    keys: tuple[str, ...]
    text: Callable[..., str] = str
    align: Align = "right"


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: what it shows.
        columns: in order of appearance.
        rows: raw values by key.
        notes: how to read it, for the caption.
        warnings: what is missing from it; reports show these in a box of their own.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Mapping[str, Any], ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def header(self) -> list[str]:
        """Headings, one per column."""
        return [column.title for column in self.columns]

    def text_rows(self) -> Iterator[list[str]]:
        """Formatted cells, one list per row."""
        for row in self.rows:
            yield [column.text(*(row[key] for key in column.keys)) for column in self.columns]

    def to_csv(self) -> str:
        """Raw values at full precision; a missing number is an empty field, a list is joined by spaces."""
        keys = list(dict.fromkeys(key for column in self.columns for key in column.keys))
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(keys)
        writer.writerows([[_csv_field(row[key]) for key in keys] for row in self.rows])
        return out.getvalue()

    def to_markdown(self) -> str:
        """GitHub's pipe table, with the title above and notes and warnings below."""
        rules = [{"left": ":--", "right": "--:"}[column.align] for column in self.columns]
        lines = [[_markdown(cell) for cell in row] for row in (self.header, *self.text_rows())]
        lines.insert(1, rules)
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        tail = [*(f"**{_markdown(text)}**" for text in self.warnings), *map(_markdown, self.notes)]
        return "\n\n".join([f"**{_markdown(self.title)}**", body, *tail]) + "\n"

    def to_latex(self) -> str:
        """A ``tabular`` with booktabs' rules; title, warnings and notes stand above it as comments."""
        comments = [f"% {line}" for text in (self.title, *self.warnings, *self.notes) for line in text.splitlines()]
        form = "".join({"left": "l", "right": "r"}[column.align] for column in self.columns)
        lines = [" & ".join(map(_latex, row)) + r" \\" for row in (self.header, *self.text_rows())]
        body = [f"\\begin{{tabular}}{{{form}}}", r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        return "\n".join([*comments, *body, r"\end{tabular}"]) + "\n"

    def without(self, *keys: str) -> Table:
        """The table with fewer columns: those that show one of these raw values are left out."""
        return replace(self, columns=tuple(column for column in self.columns if not set(keys) & set(column.keys)))

    def to_rich(self) -> RichTable:
        """For the terminal. Cells are plain text: rich's ``[markup]`` in a name or an interval is not interpreted."""
        caption = Text("\n".join([*self.warnings, *self.notes]))
        caption.stylize("bold", 0, len("\n".join(self.warnings)))
        table = RichTable(title=Text(self.title), caption=caption, caption_justify="left")
        for column in self.columns:
            table.add_column(Text(column.title), justify=column.align)
        for row in self.text_rows():
            table.add_row(*map(Text, row))
        return table

    def save(self, path_stem: Path) -> tuple[Path, ...]:
        """Write ``path_stem.csv``, ``.md`` and ``.tex`` atomically; returns their paths."""
        stem = Path(path_stem)
        texts = {".csv": self.to_csv(), ".md": self.to_markdown(), ".tex": self.to_latex()}
        paths = tuple(stem.with_name(stem.name + ending) for ending in texts)
        for path, text in zip(paths, texts.values(), strict=True):
            write_text(path, text)
        return paths


def number(value: float, digits: int = 2) -> str:
    """A number for people: ``digits`` decimals without trailing zeros, thousands apart, a dash where there is none."""
    if value is None or math.isnan(value):
        return ABSENT
    text = f"{value:,.{digits}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text


def interval_text(value: float, low: float, high: float, n: int | None = None) -> str:
    """``6.50 [5.75, 7.25] (n=10)``, all with two decimals so that a column lines up; no line break in the brackets."""
    if math.isnan(value):
        return ABSENT
    ends = f"no{NBSP}interval" if math.isnan(low) else f"[{low:,.2f},{NBSP}{high:,.2f}]"
    return f"{value:,.2f} {ends}" + ("" if n is None else f" (n={n})")


def ranges(seeds: Iterable[int]) -> str:
    """``0–4, 7``: runs of three or more consecutive seeds are joined."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ", ".join(f"{p[0]}–{p[-1]}" if len(p) > 2 else ", ".join(map(str, p)) for p in parts)


def _csv_field(value: Any) -> Any:
    if isinstance(value, float) and math.isnan(value):
        return ""
    return " ".join(map(str, value)) if isinstance(value, (tuple, list)) else value


_LATEX = {"\\": r"\textbackslash{}", "λ": r"$\lambda$", "τ": r"$\tau$", "±": r"$\pm$", "≥": r"$\geq$", "–": "--"}
_LATEX |= {
    "×": r"$\times$",
    "−": "$-$",
    "·": r"$\cdot$",
    NBSP: "~",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
_LATEX |= {mark: f"\\{mark}" for mark in "&%$#_{}"} | {"<": "$<$", ">": "$>$", "|": "$|$", "\n": " "}


def _latex(text: str) -> str:
    """Text as LaTeX shows it: its special characters escaped, the symbols that tables use in math mode.

    A cell that begins with a bracket is set in braces, since a bracket after the end of a row would be its argument.
    """
    made = "".join(_LATEX.get(character, character) for character in text)
    return f"{{{made}}}" if made.startswith("[") else made


def _markdown(text: str) -> str:
    """Text that cannot break out of its cell or become markup."""
    for mark in "\\|*_`[]":
        text = text.replace(mark, "\\" + mark)
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("\n", " ")
