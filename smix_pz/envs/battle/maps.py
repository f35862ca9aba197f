"""SMAC's 23 maps: who fights whom, where the armies stand at the start, and what the enemy is told to do.

Source: SMAC specification, sections 1 (sizes, limits, type bits), 1.1 (order of units) and 7 (spawns, orders, terrain).
Points are cells from the map's south-west corner.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from smix_pz.names import check_name

__all__ = ["MAPS", "BattleMap", "Group", "Order", "find_map"]

Point = tuple[float, float]

LANE_ALLIES: Point = (9.0, 16.0)
LANE_ENEMIES: Point = (23.0, 16.0)


@dataclass(frozen=True)
class Group:
    """`count` units of one type, all created at the point (x, y)."""

    unit: str
    count: int
    x: float
    y: float


@dataclass(frozen=True)
class Order:
    """What all enemies are told when a battle begins.

    `kind` is "attack-move" (to `points[0]`), "segment" (attack-move to a random point between `points[0]` and
    `points[1]`), "hunt" (attack the allies wherever they go) or "none".
    """

    kind: str
    points: tuple[Point, ...] = ()


@dataclass(frozen=True)
class BattleMap:
    """One of SMAC's maps. Groups stand in order of creation, which is the order of the enemies' numbers."""

    name: str
    allies: tuple[Group, ...]
    enemies: tuple[Group, ...]
    ally_race: str  # "T", "P" or "Z"
    enemy_race: str
    limit: int  # environment steps
    type_bits: int
    map_type: str
    terrain: str
    order: Order

    @property
    def n_allies(self) -> int:
        return sum(group.count for group in self.allies)

    @property
    def n_enemies(self) -> int:
        return sum(group.count for group in self.enemies)


def _army(text: str, point: Point) -> tuple[Group, ...]:
    """Groups of a text such as "2 stalker 3 zealot", all at one point."""
    words = text.split()
    return tuple(Group(unit, int(count), *point) for count, unit in zip(words[::2], words[1::2], strict=True))


# The maps on which two armies stand face to face on the east-west line: name, allies, enemies, races, limit, type bits,
# map type, terrain.
FACE_TO_FACE = (
    ("3m", "3 marine", "3 marine", "TT", 60, 0, "marines", "lane"),
    ("8m", "8 marine", "8 marine", "TT", 120, 0, "marines", "lane"),
    ("25m", "25 marine", "25 marine", "TT", 150, 0, "marines", "lane"),
    ("5m_vs_6m", "5 marine", "6 marine", "TT", 70, 0, "marines", "lane"),
    ("8m_vs_9m", "8 marine", "9 marine", "TT", 120, 0, "marines", "lane"),
    ("10m_vs_11m", "10 marine", "11 marine", "TT", 150, 0, "marines", "lane"),
    ("27m_vs_30m", "27 marine", "30 marine", "TT", 180, 0, "marines", "lane"),
    (
        "MMM",
        "7 marine 2 marauder 1 medivac",
        "7 marine 2 marauder 1 medivac",
        "TT",
        150,
        3,
        "MMM",
        "lane",
    ),
    (
        "MMM2",
        "7 marine 2 marauder 1 medivac",
        "8 marine 3 marauder 1 medivac",
        "TT",
        180,
        3,
        "MMM",
        "lane",
    ),
    ("2s3z", "2 stalker 3 zealot", "2 stalker 3 zealot", "PP", 120, 2, "stalkers_and_zealots", "lane"),
    ("3s5z", "3 stalker 5 zealot", "3 stalker 5 zealot", "PP", 150, 2, "stalkers_and_zealots", "lane"),
    ("3s5z_vs_3s6z", "3 stalker 5 zealot", "3 stalker 6 zealot", "PP", 170, 2, "stalkers_and_zealots", "lane"),
    (
        "1c3s5z",
        "1 colossus 3 stalker 5 zealot",
        "1 colossus 3 stalker 5 zealot",
        "PP",
        180,
        3,
        "colossi_stalkers_zealots",
        "lane",
    ),
    ("3s_vs_3z", "3 stalker", "3 zealot", "PP", 150, 0, "stalkers", "open"),
    ("3s_vs_4z", "3 stalker", "4 zealot", "PP", 200, 0, "stalkers", "open"),
    ("3s_vs_5z", "3 stalker", "5 zealot", "PP", 250, 0, "stalkers", "open"),
)

FAR_CHAMBER = Order("attack-move", ((4.47, 4.3298),))

OTHERS = (
    BattleMap(
        "2m_vs_1z",
        (Group("marine", 1, 13.0, 12.0), Group("marine", 1, 19.0, 12.0)),
        (Group("zealot", 1, 16.0, 19.0),),
        "T",
        "P",
        limit=150,
        type_bits=0,
        map_type="marines",
        terrain="octagon",
        order=Order("segment", ((13.0, 12.0), (19.0, 12.0))),
    ),
    BattleMap(
        "2s_vs_1sc",
        (Group("stalker", 1, 11.1208, 10.338), Group("stalker", 1, 16.976, 10.3662)),
        (Group("spine_crawler", 1, 13.92, 20.0397),),
        "P",
        "Z",
        limit=300,
        type_bits=0,
        map_type="stalkers",
        terrain="pentagon",
        order=Order("none"),
    ),
    BattleMap(
        "6h_vs_8z",
        (Group("hydralisk", 6, 14.5998, 9.49),),
        (Group("zealot", 8, 14.41, 16.7597),),
        "Z",
        "P",
        limit=150,
        type_bits=0,
        map_type="hydralisks",
        terrain="pit",
        order=Order("attack-move", ((14.5998, 9.49),)),
    ),
    BattleMap(
        "corridor",
        (Group("zealot", 6, 19.0397, 19.1198),),
        (Group("zergling", 24, 27.91, 28.24),),
        "P",
        "Z",
        limit=400,
        type_bits=0,
        map_type="zealots",
        terrain="corridor",
        order=FAR_CHAMBER,
    ),
    BattleMap(
        "so_many_baneling",
        (Group("zealot", 7, 11.469, 12.0234),),
        (Group("baneling", 32, 27.91, 28.24),),
        "P",
        "Z",
        limit=100,
        type_bits=0,
        map_type="zealots",
        terrain="diagonal",
        order=FAR_CHAMBER,
    ),
    BattleMap(
        "bane_vs_bane",
        (Group("zergling", 20, 16.0, 11.0), Group("baneling", 4, 16.0, 8.0)),
        (Group("zergling", 20, 16.0, 21.0), Group("baneling", 4, 16.0, 24.0)),
        "Z",
        "Z",
        limit=200,
        type_bits=2,
        map_type="bane",
        terrain="octagon",
        order=Order("attack-move", ((16.0, 8.0),)),
    ),
    BattleMap(
        "2c_vs_64zg",
        (Group("colossus", 2, 16.0, 16.0),),
        (Group("zergling", 64, 16.0, 9.0),),
        "P",
        "Z",
        limit=400,
        type_bits=0,
        map_type="colossus",
        terrain="plateau",
        order=Order("hunt"),
    ),
)


def _face_to_face() -> tuple[BattleMap, ...]:
    return tuple(
        BattleMap(
            name,
            _army(allies, LANE_ALLIES),
            _army(enemies, LANE_ENEMIES),
            races[0],
            races[1],
            limit=limit,
            type_bits=type_bits,
            map_type=map_type,
            terrain=terrain,
            order=Order("attack-move", (LANE_ALLIES,)),
        )
        for name, allies, enemies, races, limit, type_bits, map_type, terrain in FACE_TO_FACE
    )


MAPS: Mapping[str, BattleMap] = MappingProxyType({row.name: row for row in (*_face_to_face(), *OTHERS)})


def find_map(name: str) -> BattleMap:
    """The map of that name; raise ValueError naming the nearest if there is none."""
    check_name("map", name, MAPS)
    return MAPS[name]
