"""Pictures of payoff tables: as text, as pixels (matplotlib), in a window (pygame); both are imported when needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

INK, FAINT, PAPER = "#1d2733", "#9aa5b1", "#ffffff"
CHOSEN, COMING, IDLE = "#ffd166", "#1f77b4", "#d5dbe1"
PANELS_PER_ROW = 5


@dataclass(frozen=True)
class Panel:
    """One table: as a rule of payoffs, whose rows are agent_0's actions, columns agent_1's.

    Attributes:
        title: a line above the table.
        cells: text of each cell, [rows][columns].
        coming: whether the next joint action is played here.
        chosen: (row, column) of the cell just played here, or None.
        rows, columns: what a picture writes beside the axes.
    """

    title: str
    cells: tuple[tuple[str, ...], ...]
    coming: bool = False
    chosen: tuple[int, ...] | None = None
    rows: str = "agent_0"
    columns: str = "agent_1"


@dataclass(frozen=True)
class Scene:
    """A whole picture: a title, a few facts, and the tables."""

    title: str
    status: tuple[str, ...]
    panels: tuple[Panel, ...]


def scene_text(scene: Scene) -> str:
    """The scene as text; [x] is the cell just played, > marks the table played next."""
    lines = [scene.title, " | ".join(scene.status)]
    for panel in scene.panels:
        width = max(len(cell) for row in panel.cells for cell in row)
        lines.append(("> " if panel.coming else "  ") + panel.title)
        for i, row in enumerate(panel.cells):
            marked = (
                f"[{cell:>{width}}]" if panel.chosen == (i, j) else f" {cell:>{width}} " for j, cell in enumerate(row)
            )
            lines.append("    " + "".join(marked))
    return "\n".join(lines) + "\n"


def scene_image(scene: Scene) -> np.ndarray:
    """The scene as pixels, uint8 [height, width, 3]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(len(scene.panels), PANELS_PER_ROW)
    rows = -(-len(scene.panels) // PANELS_PER_ROW)
    width, height = max(6.0, 2.2 * columns + 0.4), 1.3 + 2.5 * rows
    figure = Figure(figsize=(width, height), dpi=100, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.5, 1 - 0.3 / height, scene.title, ha="center", va="center", size=15, weight="bold", color=INK)
    figure.text(0.5, 1 - 0.68 / height, "    ".join(scene.status), ha="center", va="center", size=10.5, color=INK)
    figure.text(0.99, 0.1 / height, "yellow: just played    blue frame: played next", ha="right", size=8, color=FAINT)
    grid = figure.add_gridspec(
        rows, columns, left=0.05, right=0.97, top=1 - 1.25 / height, bottom=0.55 / height, wspace=0.3, hspace=0.45
    )
    for index, panel in enumerate(scene.panels):
        _draw_panel(figure.add_subplot(grid[index // columns, index % columns]), panel)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def _draw_panel(axes: Any, panel: Panel) -> None:
    from matplotlib.patches import Rectangle

    n_rows, n_columns = len(panel.cells), len(panel.cells[0])
    size = min(15.0, 42.0 / max(n_rows, n_columns, max(len(cell) for row in panel.cells for cell in row) * 0.6))
    for i, row in enumerate(panel.cells):
        for j, cell in enumerate(row):
            face = CHOSEN if panel.chosen == (i, j) else PAPER
            axes.add_patch(Rectangle((j, i), 1, 1, facecolor=face, edgecolor=IDLE, linewidth=1))
            axes.text(j + 0.5, i + 0.5, cell, ha="center", va="center", size=size, color=INK)
    edge, line = (COMING, 3.5) if panel.coming else (FAINT, 1.2)
    axes.add_patch(Rectangle((0, 0), n_columns, n_rows, fill=False, edgecolor=edge, linewidth=line, clip_on=False))
    axes.set(xlim=(0, n_columns), ylim=(n_rows, 0), aspect="equal")
    axes.set_title(panel.title, size=9.5, color=COMING if panel.coming else INK, pad=7)
    axes.set_xticks(np.arange(n_columns) + 0.5, [str(j) for j in range(n_columns)])
    axes.set_yticks(np.arange(n_rows) + 0.5, [str(i) for i in range(n_rows)])
    axes.set_xlabel(panel.columns if n_columns > 1 else "", size=8, color=FAINT, labelpad=1)
    axes.set_ylabel(panel.rows, size=8, color=FAINT, labelpad=1)
    axes.tick_params(length=0, labelsize=8, colors=FAINT)
    for spine in axes.spines.values():
        spine.set_visible(False)


class Window:
    """A window on the screen, opened at the first picture. Needs pygame-ce, which is an optional dependency.

    Raises:
        ImportError: pygame is not installed.
    """

    def __init__(self) -> None:
        try:
            import pygame
        except ImportError as error:
            raise ImportError(
                'render_mode="human" needs pygame-ce: pip install smix-pz[human]. '
                'Without it, use render_mode="rgb_array" or "ansi".'
            ) from error
        self._pygame: Any = pygame
        self._screen: Any = None
        self._clock: Any = None

    def show(self, image: np.ndarray, title: str, frames_per_second: float) -> None:
        """Show pixels uint8 [height, width, 3], then wait so that no more than the given pictures a second pass."""
        pygame = self._pygame
        size = (image.shape[1], image.shape[0])
        if self._screen is None:
            pygame.display.init()
            self._clock = pygame.time.Clock()
        if self._screen is None or self._screen.get_size() != size:
            self._screen = pygame.display.set_mode(size)
            pygame.display.set_caption(title)
        self._screen.blit(pygame.surfarray.make_surface(image.swapaxes(0, 1)), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        self._clock.tick(frames_per_second)

    def close(self) -> None:
        """Close the window; a later picture opens it again."""
        if self._screen is not None:
            self._pygame.display.quit()
            self._screen = None
