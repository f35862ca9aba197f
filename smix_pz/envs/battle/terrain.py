"""The ground of SMAC's maps: where one can walk, how high it is, and which way leads round a cliff.

The grids are rows of text below, so that a measured grid can replace them. Source: SMAC specification, section 7 (cliff
cells of the map files; for "corridor" SMAClite's grid, because the file's choke cells touch at their corners only).
What StarCraft II itself reports is unknown for all but the lane.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

import numpy as np
from numba import njit

from smix_pz.envs.battle.state import MAP_SIZE
from smix_pz.names import check_name

__all__ = ["TERRAINS", "Terrain", "terrain"]

# Pathable cells, "rows: columns" with both ends included: y range(s), then x range(s).
GRIDS: Mapping[str, str] = MappingProxyType(
    {
        "lane": "8-23: 0-31",
        "open": "0-31: 0-31",
        "octagon": """
            6-7: 10-21
            8-9: 8-23
            10-21: 6-25
            22-23: 8-23
            24-25: 10-21
        """,
        "pentagon": """
            8-19: 8-19
            20-21: 10-17
            22-23: 12-15
        """,
        "pit": """
            8-9: 10-19
            10-17: 8-21
            18-19: 10-19
        """,
        "corridor": """
            1: 2-13
            2: 1-13
            3-10: 1-12
            11: 1-13
            12: 2-14
            13: 11-25
            14: 12-26
            15: 13-27
            16: 13-28
            17: 12-29
            18-21: 11-30
            22: 12-30
            23: 13-30
            24: 14-30
            25: 15-30
            26: 16-30
            27: 17-30
            28: 18-30
            29: 19-30
            30: 20-29
        """,
        "diagonal": """
            2-3: 2-7
            4-7: 2-11
            8-11: 4-15
            12-15: 8-19
            16-17: 10-19
            18-21: 14-25
            22-23: 16-29
            24-27: 20-29
            28-29: 22-29
        """,
        "plateau": """
            6-7: 4-27
            8-9: 2-29
            10-11: 0-31
            12-13: 0-3 28-31
            14-15: 0-31
            16-17: 2-29
            18-19: 8-23
        """,
    }
)

# Chambers closed by a ring of cliffs one block (2 x 2 cells) wide. The map beyond it is flagged pathable, but nobody
# gets there. The map files' flags agree with these rings cell for cell.
WALLED = ("pentagon", "pit")

# Altitudes, later rows over earlier ones, by the cliff levels of the map files: level 0 lies at 0 or 1, level 1, on
# which everybody walks, at 8, the plateau at 10; ramps rise in steps. They show in `obs_terrain_height` only.
ALTITUDES: Mapping[str, tuple[tuple[float, str], ...]] = MappingProxyType(
    {
        "lane": ((1.0, "0-31: 0-31"), (8.0, "7-24: 0-31")),
        "open": ((8.0, "0-31: 0-31"),),
        "octagon": (
            (1.0, "0-31: 0-31"),
            (
                8.0,
                """
                5: 9-22
                6: 8-23
                7: 7-24
                8: 6-25
                9-22: 5-26
                23: 6-25
                24: 7-24
                25: 8-23
                26: 9-22
                """,
            ),
        ),
        "pentagon": (
            (0.0, "0-31: 0-31"),
            (
                8.0,
                """
                7-20: 7-20
                21: 8-19
                22: 9-18
                23: 10-17
                24: 11-16
                """,
            ),
        ),
        "pit": (
            (0.0, "0-31: 0-31"),
            (
                8.0,
                """
                7: 9-20
                8: 8-21
                9-18: 7-22
                19: 8-21
                20: 9-20
                """,
            ),
        ),
        "corridor": (
            (1.0, "0-31: 0-31"),
            (
                8.0,
                """
                1-2: 1-14
                3: 1-13
                4-9: 1-12
                10: 1-13
                11: 1-14
                12: 1-15
                13: 10-26
                14: 11-27
                15: 12-28
                16: 12-29
                17-22: 11-30
                23: 12-30
                24: 13-30
                25: 14-30
                26: 15-30
                27: 16-30
                28: 17-30
                29: 18-30
                30: 19-30
                """,
            ),
        ),
        "diagonal": (
            (1.0, "0-31: 0-31"),
            (
                8.0,
                """
                1: 1-8
                2: 1-9
                3-5: 1-12
                6: 1-13
                7-8: 1-16
                9: 2-16
                10: 3-17
                11-12: 3-20
                13: 6-20
                14-15: 7-20
                16: 7-21
                17: 8-26
                18: 9-26
                19: 12-26
                20: 13-27
                21-22: 13-30
                23: 14-30
                24: 15-30
                25: 18-30
                26-28: 19-30
                29: 20-30
                30: 21-30
                """,
            ),
        ),
        "plateau": (
            (1.0, "0-31: 0-31"),
            (
                8.0,
                """
                5: 3-28
                6: 2-29
                7: 1-30
                8-17: 0-31
                18: 1-30
                19: 2-29
                20: 3-28
                """,
            ),
            (10.0, "13-20: 7-24"),
            (8.25, "13-18: 4 27"),
            (8.75, "13-18: 5 26"),
            (9.25, "13-18: 6 25"),
        ),
    }
)

# A terrain height is a byte: altitudes -16 to 16 over 0 to 255. Inferred from how bots read the game's interface.
LOWEST, HIGHEST = -16.0, 16.0

# How far from the map's edge units are kept on ground without cliffs (section 7: a soft margin of one cell).
MARGINS: Mapping[str, float] = MappingProxyType({"open": 1.0})

TERRAINS = tuple(GRIDS)

# Lengths of a straight and a diagonal step as integers: 577 / 408 is the square root of 2 to six digits, and sums of
# integers compare exactly.
STRAIGHT = 408
DIAGONAL = 577
_FAR = 1 << 30

DIRECT = -1
UNREACHABLE = -2


@dataclass(frozen=True)
class Terrain:
    """A map's ground. Cell (x, y) covers x to x + 1 and y to y + 1; its id is x * 32 + y.

    Attributes:
        name: key of `GRIDS`.
        pathable: uint8 [32, 32], indexed [x, y]; 1 where ground units can walk.
        height: uint8 [32, 32], terrain height as a byte.
        margin: units are kept this far from the map's edge.
        waypoints: int16 [1024, 1024], [from, to]: -1 if every straight line from a point of one cell to a point of the
            other is free of blocked cells, else the cell to make for first, towards which every straight line is free;
            -2 if there is no way (or `from` is blocked). A goal that is blocked is approached by the free cell nearest
            to it, and from that one straight on (-1). Shape (0, 0) where the pathable cells form one
            rectangle, in which every line is free.
    """

    name: str
    pathable: np.ndarray
    height: np.ndarray
    margin: float
    waypoints: np.ndarray


def _ranges(text: str) -> list[tuple[int, int]]:
    """Inclusive ranges of a text such as "0-3 28-31" or "7"."""
    bounds = [part.split("-") for part in text.split()]
    return [(int(bound[0]), int(bound[-1])) for bound in bounds]


def _cells(text: str) -> np.ndarray:
    """The cells named by rows of text, bool [32, 32] indexed [x, y]."""
    cells = np.zeros((MAP_SIZE, MAP_SIZE), bool)
    for row in text.strip().splitlines():
        rows, columns = row.split(":")
        for low_y, high_y in _ranges(rows):
            for low_x, high_x in _ranges(columns):
                cells[low_x : high_x + 1, low_y : high_y + 1] = True
    return cells


def _outside_ring(inside: np.ndarray) -> np.ndarray:
    """Cells that lie neither in `inside` nor in the ring of 2 x 2 blocks around it, bool [32, 32]."""
    blocks = inside[::2, ::2]
    grown = np.zeros((MAP_SIZE // 2 + 2,) * 2, bool)
    for shift_x in range(3):
        for shift_y in range(3):
            grown[shift_x : shift_x + MAP_SIZE // 2, shift_y : shift_y + MAP_SIZE // 2] |= blocks
    return ~np.kron(grown[1:-1, 1:-1], np.ones((2, 2), bool))


def _is_rectangle(cells: np.ndarray) -> bool:
    columns, rows = np.nonzero(cells)
    return bool(cells[columns.min() : columns.max() + 1, rows.min() : rows.max() + 1].all())


@cache
def terrain(name: str) -> Terrain:
    """The terrain of that name, computed at first use; its arrays are read-only and shared.

    Raises:
        ValueError: unknown name.
    """
    check_name("terrain", name, TERRAINS)
    inside = _cells(GRIDS[name])
    pathable = (inside | _outside_ring(inside) if name in WALLED else inside).astype(np.uint8)
    height = np.zeros_like(pathable)
    for altitude, rows in ALTITUDES[name]:
        height[_cells(rows)] = round(255 * (altitude - LOWEST) / (HIGHEST - LOWEST))
    waypoints = np.zeros((0, 0), np.int16) if _is_rectangle(pathable) else make_waypoints(pathable)
    for array in (pathable, height, waypoints):
        array.setflags(write=False)
    return Terrain(name, pathable, height, MARGINS.get(name, 0.0), waypoints)


@njit(cache=True, nogil=True)
def line_is_free(pathable: np.ndarray, x0: int, y0: int, x1: int, y1: int) -> bool:
    """Whether no blocked cell reaches into the convex hull of two cells; touching its border is allowed.

    A cell reaches into the hull of two others if and only if the segment between their centres passes through the open
    square of side 2 around its own centre. All in integers, hence exact.
    """
    run, rise = abs(x1 - x0), abs(y1 - y0)
    step_x = 1 if x1 >= x0 else -1
    step_y = 1 if y1 >= y0 else -1
    if run == 0 and rise == 0:
        return pathable[x0, y0] != 0
    steep = rise > run
    if steep:
        run, rise = rise, run
    # Along the longer axis, for each column u: heights v of the segment within (u - 1, u + 1), times `run`.
    for u in range(run + 1):
        low = rise * max(u - 1, 0)
        high = rise * min(u + 1, run)
        for v in range(low // run, high // run + 2):
            if high > (v - 1) * run and low < (v + 1) * run:
                x = x0 + step_x * (v if steep else u)
                y = y0 + step_y * (u if steep else v)
                if x < 0 or x >= MAP_SIZE or y < 0 or y >= MAP_SIZE or pathable[x, y] == 0:
                    return False
    return True


@njit(cache=True, nogil=True)
def make_waypoints(pathable: np.ndarray) -> np.ndarray:
    """`Terrain.waypoints` of a grid uint8 [32, 32].

    Paths go from cell to cell, diagonally only where both cells beside the diagonal are free; of several shortest ones
    the one whose next cell is nearest to the goal is followed. The waypoint is the farthest cell along it with a free
    line. Every cell that a straight walk to it crosses is nearer to the goal (in steps), so that following waypoints
    anew from each cell arrives.
    """
    size = MAP_SIZE
    cells = size * size
    free = np.zeros((cells, cells), np.uint8)
    for a in range(cells):
        if pathable[a // size, a % size]:
            for b in range(a, cells):
                if pathable[b // size, b % size] and line_is_free(pathable, a // size, a % size, b // size, b % size):
                    free[a, b] = 1
                    free[b, a] = 1
    # Neighbours of each cell: straight ones first.
    shifts = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1))
    neighbours = np.full((cells, 8), -1, np.int32)
    for a in range(cells):
        for n in range(8):
            x, y = a // size + shifts[n][0], a % size + shifts[n][1]
            if 0 <= x < size and 0 <= y < size and free[a, x * size + y]:
                neighbours[a, n] = x * size + y
    waypoints = np.full((cells, cells), UNREACHABLE, np.int16)
    distance = np.empty(cells, np.int64)
    following = np.empty(cells, np.int64)
    for goal in range(cells):
        if pathable[goal // size, goal % size] == 0:
            continue
        # Shortest ways to the goal, by sweeps in both directions until nothing improves.
        distance[:] = _FAR
        distance[goal] = 0
        improved = True
        backward = False
        while improved:
            improved = False
            for i in range(cells):
                a = cells - 1 - i if backward else i
                best = distance[a]
                for n in range(8):
                    b = neighbours[a, n]
                    if b >= 0:
                        best = min(best, distance[b] + (STRAIGHT if n < 4 else DIAGONAL))
                if best < distance[a]:
                    distance[a] = best
                    improved = True
            backward = not backward
        for a in range(cells):
            following[a] = -1
            nearest = _FAR
            for n in range(8):
                b = neighbours[a, n]
                if b >= 0 and distance[a] < _FAR and distance[b] + (STRAIGHT if n < 4 else DIAGONAL) == distance[a]:
                    x, y = b // size - goal // size, b % size - goal % size
                    if x * x + y * y < nearest:
                        nearest = x * x + y * y
                        following[a] = b
        for a in range(cells):
            if distance[a] == _FAR:
                continue
            if free[a, goal]:
                waypoints[a, goal] = DIRECT
                continue
            b = following[a]
            while b != goal:
                if free[a, b]:
                    waypoints[a, goal] = b
                b = following[b]
    # A goal in a wall (where a colossus may stand) is approached by the free cell nearest to it.
    for goal in range(cells):
        if pathable[goal // size, goal % size]:
            continue
        near, nearest = -1, cells * cells
        for b in range(cells):
            if pathable[b // size, b % size]:
                x, y = b // size - goal // size, b % size - goal % size
                if x * x + y * y < nearest:
                    near, nearest = b, x * x + y * y
        for a in range(cells):
            way = waypoints[a, near]
            waypoints[a, goal] = near if way == DIRECT and a != near else way
    return waypoints
