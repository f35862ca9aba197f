"""Pictures of a battle, drawn with Pillow: who stands where, who shoots at whom, who was told what, and who is winning.

What is drawn follows from one row of `UNIT`s and one `BATTLE`, so that a copy of the two arrays is all a film needs.
Blue fights vermillion, which nearly every kind of colour vision tells apart; shapes and sizes tell the types.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from smix_pz.envs.battle.state import (
    BATTLE,
    DEFEAT,
    DRAW,
    LAYER_AIR,
    LAYER_COLOSSUS,
    LAYER_GROUND,
    ORDER_ATTACK,
    ORDER_HEAL,
    ORDER_MOVE,
    UNIT,
    WEAPON_BLAST,
    WEAPON_NONE,
    WEAPON_SWEEP,
    WIN,
)
from smix_pz.envs.checks import check_int

if TYPE_CHECKING:
    from smix_pz.envs.battle.scenario import Scenario

Colour = tuple[int, int, int]
Point = tuple[float, float]

# Allies, enemies: bodies; then their rims, shots and letters.
TEAM: tuple[Colour, Colour] = ((38, 120, 214), (222, 88, 12))
TINT: tuple[Colour, Colour] = ((168, 212, 255), (255, 206, 150))
HEALTH: Colour = (112, 224, 104)
SHIELD: Colour = (150, 222, 255)
ENERGY: Colour = (206, 140, 255)
HEAL: Colour = (90, 240, 150)
BLAST: Colour = (214, 240, 60)
TRACK: Colour = (10, 12, 16)  # of an empty bar
FLOOR: Colour = (50, 56, 66)
HIGH_FLOOR: Colour = (74, 78, 84)  # the highest level
CLIFF: Colour = (22, 24, 29)
PANEL: Colour = (14, 16, 20)
INK: Colour = (236, 240, 245)
FAINT: Colour = (150, 160, 172)
EMPTY: Colour = (40, 44, 52)  # of a side's bar
LABEL_EDGE: Colour = (8, 40, 84)

MARGIN = 1.0  # cells around the ground that can be walked on
OVERSAMPLING = 2  # the field is drawn this many times larger, then averaged
SPRITE_OVERSAMPLING = 4  # sprites, drawn once, this much more again
MELEE = 1.0  # a weapon of less range than this is drawn as a blow, not as a shot
HEAL_SLACK = 0.5  # cells; a healer and its patient may have moved apart since the healing
CROWD = 24  # with more units than this, unhurt ones show no bars and enemies no intents
SIZES = (160, 4096)


def _polygon(corners: int, turn: float = 0.0, inner: float = 1.0) -> tuple[Point, ...]:
    """Corners of a regular polygon of radius 1, the first one up (+ `turn` in corners); with `inner`, a star's."""
    count = corners if inner == 1.0 else 2 * corners
    angles = [2 * math.pi * (index + turn) / count for index in range(count)]
    radii = [1.0 if index % 2 == 0 else inner for index in range(count)] if inner != 1.0 else [1.0] * count
    return tuple((r * math.sin(a), -r * math.cos(a)) for r, a in zip(radii, angles, strict=True))


def _scaled(points: Iterable[Point], factor: float) -> tuple[Point, ...]:
    return tuple((x * factor, y * factor) for x, y in points)


_DISC = _polygon(40)
_ARM = ((-0.4, -0.4), (-0.4, -1.0), (0.4, -1.0))  # a quarter of a cross, turned about its centre for the others
_CROSS = (*_ARM, *((-y, x) for x, y in _ARM), *((-x, -y) for x, y in _ARM), *((y, -x) for x, y in _ARM))
_LEG = ((0.35, -0.25), (1.00, -1.20), (1.25, -1.00), (0.60, 0.05))


@dataclass(frozen=True)
class Glyph:
    """A type's name and its shape: polygons in the unit's radius, +y down."""

    name: str
    shape: tuple[tuple[Point, ...], ...]


UNKNOWN = Glyph("unit", (_DISC,))
# By StarCraft II's unit type.
GLYPHS: dict[int, Glyph] = {
    48: Glyph("marine", (_DISC,)),
    51: Glyph("marauder", (_scaled(_polygon(8, 0.5), 1.08),)),
    54: Glyph("medivac", (_CROSS,)),
    74: Glyph("stalker", (_scaled(_polygon(4), 1.2),)),
    73: Glyph("zealot", (((-1.05, -1.0), (0, -0.75), (1.05, -1.0), (1.0, 0.3), (0, 1.25), (-1.0, 0.3)),)),
    4: Glyph(
        "colossus",
        (
            *(tuple((sx * x, sy * y) for x, y in _LEG) for sx in (1, -1) for sy in (1, -1)),
            _scaled(_DISC, 0.75),
        ),
    ),
    98: Glyph("spine crawler", (_scaled(_polygon(8, 0.0, 0.62), 1.1),)),
    105: Glyph("zergling", (((0, 1.2), (-1.1, -0.95), (-0.35, -0.7), (0, -1.1), (0.35, -0.7), (1.1, -0.95)),)),
    9: Glyph("baneling", (_scaled(_polygon(9, 0.0, 0.78), 1.15),)),
    107: Glyph("hydralisk", (((0, -1.25), (0.85, -0.2), (0.7, 0.75), (0, 1.1), (-0.7, 0.75), (-0.85, -0.2)),)),
}


@dataclass(frozen=True)
class View:
    """The part of the map that is shown: cells [x0, x1] by [y0, y1], and pixels for each cell."""

    x0: float
    y0: float
    x1: float
    y1: float
    scale: float

    def pixel(self, x: float, y: float) -> Point:
        """Where a point of the map lies, from the field's upper left corner."""
        return (x - self.x0) * self.scale, (self.y1 - y) * self.scale


def just_fired(
    units: np.ndarray, kinds: np.ndarray, loops_since: int = 8, previous: np.ndarray | None = None
) -> np.ndarray:
    """Which living units attacked since the picture before, or have hits of an attack still to come; bool [U].

    Given the units as they were in the `previous` picture this is exact. Without them the cooldown tells: an attack
    sets it to the weapon's period and a random -1 to +2 loops, so an attack of `loops_since` loops ago always counts,
    and one of up to 3 loops more may.
    """
    kind = kinds[units["kind"]]
    under_way = units["strikes_left"] > 0
    if previous is None:
        launched = units["cooldown"] > np.maximum(kind["period"] - 1.0 - loops_since, 0.0)
    else:
        launched = units["cooldown"] > previous["cooldown"]
        under_way |= previous["strikes_left"] > 0  # they came since
    able = (kind["weapon"] != WEAPON_NONE) & (units["health"] > 0.0) & (units["strike_target"] >= 0)
    return able & (launched | under_way)


def just_blasted(units: np.ndarray, kinds: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Which units have blown up since the `previous` picture, bool [U]."""
    kind = kinds[units["kind"]]
    died = (previous["health"] > 0.0) & (units["health"] <= 0.0)
    attacked = units["strike_target"] >= 0  # the only attack of such a unit is its blast
    return (kind["weapon"] == WEAPON_BLAST) & died & ((kind["blast_on_death"] == 1) | attacked)


@dataclass(frozen=True)
class _Scene:
    """One picture's battle; lists are by unit, lengths and places in pixels of the enlarged field."""

    units: np.ndarray
    kind: np.ndarray
    living: list[int]
    at: list[Point]
    radius: list[float]
    owner: list[int]

    def rim_to_rim(self, i: int, j: int) -> tuple[Point, Point]:
        """The part of the line between two units that is outside both."""
        start, end = self.at[i], self.at[j]
        dx, dy, length = _direction(start, end)
        first, last = self.radius[i], length - self.radius[j]
        if last < first:
            first = last = (first + last) / 2
        return (start[0] + dx * first, start[1] + dy * first), (start[0] + dx * last, start[1] + dy * last)


class BattlePainter:
    """Paints battles of one scenario.

    Args:
        scenario: the `Scenario` that is played.
        size: width of the picture in pixels; also the most that the field takes in height.

    Attributes:
        view: the part of the map that is shown.
        width, height: of the picture in pixels, both even.
        field_top: where the field begins, below the panel of the two sides.

    Raises:
        TypeError: size is not an integer.
        ValueError: size is below 160 or above 4096.
    """

    def __init__(self, scenario: Scenario, size: int = 640) -> None:
        size = check_int("size (width of the picture in pixels)", size, SIZES[0])
        if size > SIZES[1]:
            raise ValueError(f"size (width of the picture in pixels) must be at most {SIZES[1]}, got {size}.")
        self.scenario = scenario
        self.kinds = scenario.kinds
        self.n_units = int(scenario.n_agents) + int(scenario.n_enemies)
        self.width = size - size % 2
        self._zoom = self.width / 640.0  # of the panel and its letters
        self.field_top = 2 * round(32 * self._zoom)
        ground = reachable(scenario)
        self.view = _view(ground, self.width)
        field_height = 2 * round((self.view.y1 - self.view.y0) * self.view.scale / 2)
        self.height = self.field_top + field_height
        self._ground = _ground(ground, scenario.terrain.height, self.view, (self.width, field_height))
        self._crowded = self.n_units > CROWD
        # As large as the room that a unit takes among others, so that they do not cover each other; never too small.
        cells = self.kinds["separation"]
        smallest = 5.0 * self._zoom * OVERSAMPLING
        self._kind_radius = [max(self._pixels(float(radius)), smallest) for radius in cells]
        self._glyphs = [GLYPHS.get(int(stock_id), UNKNOWN) for stock_id in self.kinds["stock_id"]]

    def paint(
        self,
        units: np.ndarray,
        battle: np.ndarray,
        loops_since: int = 8,
        caption: str = "",
        previous: np.ndarray | None = None,
    ) -> np.ndarray:
        """One picture.

        Args:
            units: UNIT [U], the battle's row.
            battle: BATTLE, its scalar.
            loops_since: game loops since the picture before; attacks of this time are drawn.
            caption: a line below the field.
            previous: UNIT [U], the units in the picture before; with it exactly the attacks since then are drawn, and
                blasts too, whatever `loops_since`.

        Returns:
            uint8 [height, width, 3].

        Raises:
            ValueError: arrays of another dtype or shape.
        """
        self._check_units("units", units)
        if previous is not None:
            self._check_units("previous", previous)
        if battle.dtype != BATTLE or battle.shape != ():
            kind_of = "BATTLE" if battle.dtype == BATTLE else battle.dtype
            raise ValueError(f"battle must be one BATTLE of shape (), got {kind_of} of shape {battle.shape}.")
        scene = self._scene(units)
        fired = [int(i) for i in np.flatnonzero(just_fired(units, self.kinds, loops_since, previous))]

        canvas = self._ground_with_zones(scene)
        draw = ImageDraw.Draw(canvas, "RGBA")
        self._draw_dead(draw, scene)
        self._draw_orders(draw, scene)
        self._draw_shots(draw, scene, fired)
        self._draw_heals(draw, scene)
        self._paste_glyphs(canvas, scene)
        self._draw_hits(draw, scene, fired)
        if previous is not None:
            self._draw_blasts(draw, scene, just_blasted(units, self.kinds, previous))

        frame = Image.new("RGB", (self.width, self.height), PANEL)
        frame.paste(canvas.reduce(OVERSAMPLING), (0, self.field_top))
        draw = ImageDraw.Draw(frame, "RGBA")
        self._draw_bars(draw, scene)
        self._draw_panel(frame, draw, scene, battle)
        self._draw_banner(frame, draw, battle)
        if caption:
            _text(
                frame, (self.width / 2, self.height - 10 * self._zoom), caption, 12 * self._zoom, INK, "middle", TRACK
            )
        return np.array(frame)

    def pixel(self, x: float, y: float) -> Point:
        """Where a point of the map lies in the picture: (column, row)."""
        column, row = self.view.pixel(x, y)
        return column, row + self.field_top

    def _check_units(self, what: str, units: np.ndarray) -> None:
        if units.dtype != UNIT or units.shape != (self.n_units,):
            raise ValueError(
                f"{what} must be UNIT of shape ({self.n_units},), one battle of {self.scenario.map.name}, "
                f"got {'UNIT' if units.dtype == UNIT else units.dtype} of shape {units.shape}."
            )

    def _scene(self, units: np.ndarray) -> _Scene:
        return _Scene(
            units=units,
            kind=self.kinds[units["kind"]],
            living=[int(i) for i in np.flatnonzero(units["health"] > 0.0)],
            at=[self._place(x, y) for x, y in zip(units["x"].tolist(), units["y"].tolist(), strict=True)],
            radius=[self._kind_radius[row] for row in units["kind"].tolist()],
            owner=units["owner"].tolist(),
        )

    # The field, drawn OVERSAMPLING times larger.

    def _place(self, x: float, y: float) -> Point:
        column, row = self.view.pixel(x, y)
        return column * OVERSAMPLING, row * OVERSAMPLING

    def _pixels(self, cells: float) -> float:
        return cells * self.view.scale * OVERSAMPLING

    def _line(self, pixels: float) -> int:
        return max(1, round(pixels * OVERSAMPLING * self._zoom))

    def _ground_with_zones(self, scene: _Scene) -> Image.Image:
        """The ground with what each side's living shooters can reach (range and own radius, as one area), enlarged."""
        ground = self._ground.copy()
        width, height = ground.width * OVERSAMPLING, ground.height * OVERSAMPLING
        for owner in (0, 1):
            discs = [
                (scene.at[i], self._pixels(float(scene.kind["range"][i] + scene.kind["radius"][i])))
                for i in scene.living
                if scene.owner[i] == owner and scene.kind["range"][i] >= MELEE
            ]
            if not discs:
                continue
            mask = Image.new("L", (width, height))
            draw = ImageDraw.Draw(mask)
            # All rims first and all insides over them leave the outline of the union.
            for shrink, strength in ((0.0, 80), (1.2 * OVERSAMPLING * self._zoom, 14)):
                for centre, reach in discs:
                    draw.ellipse(_box(centre, reach - shrink), fill=strength)
            mask = mask.reduce(OVERSAMPLING)
            box = mask.getbbox()
            if box is not None:
                ground.paste(TEAM[owner], box, mask.crop(box))
        return ground.resize((width, height), Image.Resampling.NEAREST)

    def _draw_dead(self, draw: Any, scene: _Scene) -> None:
        for i in np.flatnonzero(scene.units["health"] <= 0.0):
            (x, y), arm = scene.at[i], 0.6 * scene.radius[i]
            for slant in (arm, -arm):
                line = (x - slant, y - arm, x + slant, y + arm)
                draw.line(line, fill=(*TEAM[scene.owner[i]], 130), width=self._line(1.8))

    def _draw_orders(self, draw: Any, scene: _Scene) -> None:
        """An arrow to where a unit was told to go, a dashed line to whom it was told, or has chosen, to attack."""
        units = scene.units
        for i in scene.living:
            if scene.owner[i] == 1 and self._crowded:
                continue
            colour, order = (*TINT[scene.owner[i]], 110), int(units["order"][i])
            if order == ORDER_MOVE:
                tip = self._place(float(units["order_x"][i]), float(units["order_y"][i]))
                self._draw_arrow(draw, scene.at[i], tip, scene.radius[i], colour)
                continue
            target = int(units["order_target" if order in (ORDER_ATTACK, ORDER_HEAL) else "target"][i])
            if target >= 0 and units["health"][target] > 0.0:
                start, end = scene.rim_to_rim(i, target)
                _dash(draw, start, end, 5 * OVERSAMPLING * self._zoom, colour, self._line(1.0))

    def _draw_arrow(self, draw: Any, centre: Point, tip: Point, radius: float, colour: tuple[int, ...]) -> None:
        dx, dy, length = _direction(centre, tip)
        head = 5 * OVERSAMPLING * self._zoom
        if length <= radius + head:
            return
        x, y = tip[0] - dx * head, tip[1] - dy * head
        draw.line((centre[0] + dx * radius, centre[1] + dy * radius, x, y), fill=colour, width=self._line(1.4))
        half = 0.55 * head
        draw.polygon([tip, (x - dy * half, y + dx * half), (x + dy * half, y - dx * half)], fill=colour)

    def _draw_shots(self, draw: Any, scene: _Scene, fired: Iterable[int]) -> None:
        """The paths of shots, below the units."""
        for i in fired:
            owner = scene.owner[i]
            if scene.kind["weapon"][i] == WEAPON_SWEEP:
                self._draw_sweep(draw, scene, i)
            elif scene.kind["range"][i] >= MELEE:
                start, end = scene.rim_to_rim(i, int(scene.units["strike_target"][i]))
                draw.line((*start, *end), fill=(*TEAM[owner], 170), width=self._line(3.6))
                draw.line((*start, *end), fill=TINT[owner], width=self._line(1.6))

    def _draw_sweep(self, draw: Any, scene: _Scene, i: int) -> None:
        """A colossus' cone of fire, and the line across it that it burns."""
        row, half, owner = scene.units[i], float(scene.kind["sweep_length"][i]), scene.owner[i]
        ends = [
            self._place(
                float(row["strike_x"] - side * row["strike_dy"]),
                float(row["strike_y"] + side * row["strike_dx"]),
            )
            for side in (-half, half)
        ]
        draw.polygon([scene.at[i], *ends], fill=(*TINT[owner], 40))
        for end in ends:
            draw.line((*scene.at[i], *end), fill=(*TINT[owner], 150), width=self._line(1.0))
        draw.line((*ends[0], *ends[1]), fill=(*TEAM[owner], 210), width=self._line(6.5))
        draw.line((*ends[0], *ends[1]), fill=(255, 255, 255), width=self._line(2.2))

    def _draw_heals(self, draw: Any, scene: _Scene) -> None:
        units, kind = scene.units, scene.kind
        for i in np.flatnonzero((kind["heal_rate"] > 0.0) & (units["health"] > 0.0) & (units["target"] >= 0)):
            j = int(units["target"][i])
            gap = math.hypot(units["x"][i] - units["x"][j], units["y"][i] - units["y"][j])
            near = gap <= kind["heal_range"][i] + kind["radius"][i] + kind["radius"][j] + HEAL_SLACK
            hurt = 0.0 < units["health"][j] < kind["health"][j]
            if scene.owner[i] == scene.owner[j] and near and hurt and units["energy"][i] > 0.0:
                start, end = scene.rim_to_rim(int(i), j)
                draw.line((*start, *end), fill=(*HEAL, 90), width=self._line(5))
                draw.line((*start, *end), fill=HEAL, width=self._line(1.8))

    def _paste_glyphs(self, canvas: Image.Image, scene: _Scene) -> None:
        """The living, those of higher layers over the others; allies with their numbers."""
        rim = 1.1 * OVERSAMPLING * self._zoom
        layers = scene.kind["layer"].tolist()
        for i in sorted(scene.living, key=lambda i: (_HEIGHT_OF_LAYER[layers[i]], scene.at[i][1])):
            label = str(i) if scene.owner[i] == 0 else ""
            glyph = self._glyphs[scene.units["kind"][i]]
            sprite = _sprite(glyph, scene.radius[i], rim, scene.owner[i], label, 13 * OVERSAMPLING * self._zoom)
            _paste_centred(canvas, sprite, scene.at[i])

    def _draw_hits(self, draw: Any, scene: _Scene, fired: Iterable[int]) -> None:
        """Where shots and blows land, above the units."""
        for i in fired:
            if scene.kind["weapon"][i] == WEAPON_SWEEP:
                continue
            blow = scene.kind["range"][i] < MELEE
            start, end = scene.rim_to_rim(i, int(scene.units["strike_target"][i]))
            x, y = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2) if blow else end
            size = (5.5 if blow else 3.6) * OVERSAMPLING * self._zoom
            star = [(x + dx * size, y + dy * size) for dx, dy in _polygon(4, inner=0.32)]
            draw.polygon(star, fill=TINT[scene.owner[i]], outline=TEAM[scene.owner[i]])
            draw.polygon([(x + 0.5 * (u - x), y + 0.5 * (v - y)) for u, v in star], fill=(255, 255, 255))

    def _draw_blasts(self, draw: Any, scene: _Scene, blasted: np.ndarray) -> None:
        for i in np.flatnonzero(blasted):
            box = _box(scene.at[i], self._pixels(float(scene.kind["blast_radius"][i])))
            draw.ellipse(box, fill=(*BLAST, 40), outline=(*BLAST, 220), width=self._line(1.6))

    # What is drawn in the picture's own pixels: bars, panel, letters.

    def _draw_bars(self, draw: Any, scene: _Scene) -> None:
        """Shield, health and (healers) energy above each unit; a bar's full length is that of the dark track."""
        units, kind = scene.units, scene.kind
        for i in scene.living:
            bars = [
                (float(units[name][i] / kind[name][i]), colour)
                for name, colour in (("shield", SHIELD), ("health", HEALTH), ("energy", ENERGY))
                if kind[name][i] > 0.0
            ]
            if self._crowded and all(share >= 1.0 for share, _ in bars):
                continue
            x, y = scene.at[i][0] / OVERSAMPLING, scene.at[i][1] / OVERSAMPLING + self.field_top
            radius = scene.radius[i] / OVERSAMPLING
            length = 2 * round(max(radius, 7 * self._zoom))
            thick = max(1, round((3.0 if len(bars) == 1 and not self._crowded else 2.0) * self._zoom))
            # On its own upper edge: higher, it would hide the number of a unit behind.
            left, top = round(x) - length // 2, round(y - 0.7 * radius) - thick * len(bars)
            draw.rectangle((left - 1, top - 1, left + length, top + thick * len(bars)), fill=TRACK)
            for row, (share, colour) in enumerate(bars):
                filled = bar_length(share, length)
                if filled:
                    upper = top + row * thick
                    draw.rectangle((left, upper, left + filled - 1, upper + thick - 1), fill=colour)

    def _draw_panel(self, frame: Image.Image, draw: Any, scene: _Scene, battle: np.ndarray) -> None:
        zoom, middle = self._zoom, self.width / 2
        limit = self.scenario.map.limit
        name = self.scenario.map.name
        size = 14 * zoom * min(1.0, 13 / len(name))  # what fits between the two bars
        _text(frame, (middle, 14 * zoom), name, size, INK, "middle")
        _text(frame, (middle, 31 * zoom), f"step {int(battle['steps'])} / {limit}", 11 * zoom, FAINT, "middle")
        for owner in (0, 1):
            own = scene.units["owner"] == owner
            self._draw_side(frame, draw, owner, scene.units[own], scene.kind[own])

    def _draw_side(self, frame: Image.Image, draw: Any, owner: int, units: np.ndarray, kind: np.ndarray) -> None:
        """A side's health and shield as one bar, and its types with how many of them live."""
        zoom = self._zoom
        left, length = round((10 if owner == 0 else 390) * zoom), round(240 * zoom)
        top, thick = round(11 * zoom), round(17 * zoom)
        whole = float((kind["health"] + kind["shield"]).sum())
        health = bar_length(float(units["health"].sum()) / whole, length)
        both = bar_length(float((units["health"] + units["shield"]).sum()) / whole, length)
        draw.rectangle((left - 1, top - 1, left + length, top + thick), fill=EMPTY)
        for filled, colour in ((both, SHIELD), (health, TEAM[owner])):
            if filled:
                start = left if owner == 0 else left + length - filled
                draw.rectangle((start, top, start + filled - 1, top + thick - 1), fill=colour)
        alive = int((units["health"] > 0.0).sum())
        words = f"{'ALLIES' if owner == 0 else 'ENEMIES'}  {alive} / {len(units)}"
        x, side = (left + 6 * zoom, "left") if owner == 0 else (left + length - 6 * zoom, "right")
        _text(frame, (x, top + thick / 2), words, 11 * zoom, INK, side, TRACK)

        entries = []
        for row in dict.fromkeys(units["kind"].tolist()):
            of_kind = units["kind"] == row
            glyph, living = self._glyphs[row], int((of_kind & (units["health"] > 0.0)).sum())
            icon = _sprite(glyph, 6.5 * zoom, zoom, owner, "", 0.0)
            entries.append((icon, _words(f"{glyph.name} {living}/{int(of_kind.sum())}", 10 * zoom, INK, None)))
        gap = 7 * zoom
        total = sum(icon.width + words_image.width for icon, words_image in entries) + gap * (len(entries) - 1)
        x = left if owner == 0 else left + length - total
        for icon, words_image in entries:
            for image in (icon, words_image):
                _paste_centred(frame, image, (x + image.width / 2, 48 * zoom))
                x += image.width
            x += gap

    def _draw_banner(self, frame: Image.Image, draw: Any, battle: np.ndarray) -> None:
        words, colour = result_words(battle)
        if words:
            zoom, middle = self._zoom, self.field_top + (self.height - self.field_top) * 0.16
            draw.rectangle((0, middle - 24 * zoom, self.width, middle + 24 * zoom), fill=(0, 0, 0, 150))
            _text(frame, (self.width / 2, middle), words, 32 * zoom, colour, "middle", TRACK)


_HEIGHT_OF_LAYER = {LAYER_GROUND: 0, LAYER_COLOSSUS: 1, LAYER_AIR: 2}


def result_words(battle: np.ndarray) -> tuple[str, Colour]:
    """The banner of a battle that has ended, and its colour; no words while it goes on."""
    words = {WIN: ("WIN", TINT[0]), DEFEAT: ("DEFEAT", TINT[1]), DRAW: ("DRAW", INK)}
    return words.get(int(battle["result"]), ("TIME LIMIT", INK) if battle["truncated"] else ("", INK))


def bar_length(share: float, length: int) -> int:
    """Pixels of a bar that are filled: proportional, none only at 0 and all only at 1."""
    if share <= 0.0:
        return 0
    return length if share >= 1.0 else min(max(round(share * length), 1), length - 1)


def reachable(scenario: Scenario) -> np.ndarray:
    """The walkable cells to which a way leads from where the units begin, bool [32, 32] indexed [x, y].

    Some maps have walkable ground outside their walls, where nothing ever happens.
    """
    pathable = scenario.terrain.pathable != 0
    spawns = np.concatenate([scenario.ally_spawn, scenario.enemy_spawn]).astype(int)
    found = np.zeros_like(pathable)
    found[spawns[:, 0], spawns[:, 1]] = True
    found &= pathable
    while True:
        wider = np.pad(found, 1)
        wider = wider[1:-1, 1:-1] | wider[2:, 1:-1] | wider[:-2, 1:-1] | wider[1:-1, 2:] | wider[1:-1, :-2]
        wider &= pathable
        if (wider == found).all():
            return found
        found = wider


def _view(ground: np.ndarray, width: int) -> View:
    """Cells and a margin around them; widened where that is higher than wide, since the width is fixed."""
    cells = np.argwhere(ground)
    low, high = cells.min(axis=0) - MARGIN, cells.max(axis=0) + 1 + MARGIN
    side, middle = float((high - low).max()), float(low[0] + high[0]) / 2
    return View(middle - side / 2, float(low[1]), middle + side / 2, float(high[1]), width / side)


def _ground(pathable: np.ndarray, height: np.ndarray, view: View, size: tuple[int, int]) -> Image.Image:
    """Floor, levels, cliffs and a faint chequer of cells, in the picture's own pixels."""
    image = Image.new("RGB", size, CLIFF)
    draw = ImageDraw.Draw(image)
    lowest, highest = float(height[pathable].min()), float(height[pathable].max())

    def corners(x: int, y: int) -> tuple[int, int, int, int]:
        left, top = view.pixel(x, y + 1)
        right, bottom = view.pixel(x + 1, y)
        return round(left), round(top), round(right) - 1, round(bottom) - 1

    for x, y in np.argwhere(pathable):
        level = (height[x, y] - lowest) / (highest - lowest) if highest > lowest else 0.0
        shade = 4 * ((x + y) % 2)
        colour = tuple(round(a + (b - a) * level) + shade for a, b in zip(FLOOR, HIGH_FLOOR, strict=True))
        draw.rectangle(corners(x, y), fill=colour)
    for x, y in np.argwhere(pathable):  # the edges of cliffs
        left, top, right, bottom = corners(x, y)
        for (dx, dy), line in (
            ((1, 0), (right, top, right, bottom)),
            ((-1, 0), (left, top, left, bottom)),
            ((0, 1), (left, top, right, top)),
            ((0, -1), (left, bottom, right, bottom)),
        ):
            nx, ny = x + dx, y + dy
            inside = 0 <= nx < pathable.shape[0] and 0 <= ny < pathable.shape[1]
            if not inside or not pathable[nx, ny]:
                draw.line(line, fill=(112, 120, 132), width=1)
    return image


@lru_cache(maxsize=4096)
def _sprite(glyph: Glyph, radius: float, rim: float, owner: int, label: str, largest: float) -> Image.Image:
    """A unit's picture, RGBA, its centre in the middle; letters of the label are at most `largest` pixels high."""
    fine = SPRITE_OVERSAMPLING
    half = math.ceil(radius * 1.35 + rim) + 1
    image = Image.new("RGBA", (2 * half * fine, 2 * half * fine), (*TEAM[owner], 0))
    draw = ImageDraw.Draw(image)
    shapes = [[((half + radius * x) * fine, (half + radius * y) * fine) for x, y in part] for part in glyph.shape]
    for part in shapes:
        draw.line([*part, part[0], part[1]], fill=TINT[owner], width=round(2 * rim * fine), joint="curve")
    for part in shapes:
        draw.polygon(part, fill=TEAM[owner])
    if label:
        size = min(radius * (1.3 if len(label) == 1 else 1.1), largest) * fine
        stroke = max(1, round(0.1 * size))
        at = (half * fine, half * fine)
        draw.text(at, label, "#ffffff", _font(size), "mm", stroke_width=stroke, stroke_fill=LABEL_EDGE)
    return image.reduce(fine)


def _paste_centred(image: Image.Image, part: Image.Image, at: Point) -> None:
    image.paste(part, (round(at[0] - part.width / 2), round(at[1] - part.height / 2)), part)


def _box(centre: Point, radius: float) -> tuple[float, float, float, float]:
    return centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius


def _direction(start: Point, end: Point) -> tuple[float, float, float]:
    """Unit vector and length from start to end; up where they are one point."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    return (dx / length, dy / length, length) if length > 0.0 else (0.0, -1.0, 0.0)


def _dash(draw: Any, start: Point, end: Point, step: float, colour: Sequence[int], width: int) -> None:
    dx, dy, length = _direction(start, end)
    at = 0.0
    while at < length:
        stop = min(at + step * 0.5, length)
        draw.line(
            (start[0] + dx * at, start[1] + dy * at, start[0] + dx * stop, start[1] + dy * stop),
            fill=colour,
            width=width,
        )
        at += step


@cache
def _font(size: float) -> ImageFont.FreeTypeFont:
    """DejaVu Sans Bold, which comes with matplotlib."""
    import matplotlib

    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans-Bold.ttf"
    return ImageFont.truetype(path, max(size, 6.0))


@lru_cache(maxsize=2048)
def _words(words: str, size: float, colour: Colour, outline: Colour | None) -> Image.Image:
    """A line of text as an RGBA image."""
    font = _font(size)
    ascent, descent = font.getmetrics()
    stroke = 0 if outline is None else max(1, round(0.1 * size))
    extent = (math.ceil(font.getlength(words)) + 2 * stroke + 1, ascent + descent + 2 * stroke)
    image = Image.new("RGBA", extent, (*(outline or colour), 0))
    at = (stroke, stroke)
    ImageDraw.Draw(image).text(at, words, colour, font, "la", stroke_width=stroke, stroke_fill=outline)
    return image


def _text(
    image: Image.Image, at: Point, words: str, size: float, colour: Colour, side: str, outline: Colour | None = None
) -> None:
    """Write words whose left end, middle or right end (`side`) is at a point."""
    part = _words(words, size, colour, outline)
    shift = {"left": 0.5, "middle": 0.0, "right": -0.5}[side] * part.width
    _paste_centred(image, part, (at[0] + shift, at[1]))
