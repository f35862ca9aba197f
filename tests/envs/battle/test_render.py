"""Pictures of battles: things are where they should be, in their colours, as long as they should be, and only then."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from smix_pz.envs import smac_sim_v0
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.players import PLAYERS
from smix_pz.envs.battle.render import (
    ENERGY,
    HEAL,
    HEALTH,
    SHIELD,
    TEAM,
    BattlePainter,
    bar_length,
    just_blasted,
    just_fired,
    reachable,
    result_words,
)
from smix_pz.envs.battle.scenario import Scenario, make_scenario
from smix_pz.envs.battle.state import (
    BATTLE,
    DEFEAT,
    DRAW,
    ORDER_ATTACK,
    ORDER_HEAL,
    ORDER_MOVE,
    UNIT,
    WIN,
)
from smix_pz.envs.battle.video import check_video, write_video

LANE_SCALE = 640 / 34  # the lane is 32 cells wide, with a cell's margin on either side


def lane_pixel(x: float, y: float) -> tuple[int, int]:
    """(row, column) of a point of the lane (rows of cells 8 to 23, a margin of one) in a picture 640 wide."""
    return round(64 + (25 - y) * LANE_SCALE), round((x + 1) * LANE_SCALE)


def whole_units(scenario: Scenario, places: dict[int, tuple[float, float]]) -> np.ndarray:
    """Unhurt units that do nothing: those of `places` there, all others dead and off the picture."""
    units = np.zeros(scenario.n_units, UNIT)
    units["kind"] = scenario.unit_kind
    units["owner"][scenario.n_agents :] = 1
    for name in ("order_target", "target", "strike_target", "attacker"):
        units[name] = -1
    units["x"], units["y"] = -50.0, -50.0
    kind = scenario.kinds[units["kind"]]
    for index, (x, y) in places.items():
        units["x"][index], units["y"][index] = x, y
        for name in ("health", "shield", "energy"):
            units[name][index] = kind[name][index]
    return units


def near_colour(picture: np.ndarray, colour: tuple[int, int, int], tolerance: float = 40.0) -> np.ndarray:
    return np.linalg.norm(picture.astype(float) - np.array(colour), axis=-1) <= tolerance


def same_colour(picture: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (picture == np.array(colour, np.uint8)).all(-1)


def battle() -> np.ndarray:
    return np.zeros((), BATTLE)


def changed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return (one != other).any(-1)


@pytest.mark.parametrize("name", MAPS)
def test_every_map_gives_an_even_picture_of_the_promised_size(name: str) -> None:
    scenario = make_scenario(name)
    painter = BattlePainter(scenario, 320)
    units = whole_units(scenario, {i: (16.0, 16.0) for i in range(scenario.n_units)})
    picture = painter.paint(units, battle())
    assert picture.dtype == np.uint8 and picture.shape == (painter.height, 320, 3)
    assert painter.height % 2 == 0
    # What can be walked on from the start is in the picture, with the points where units begin.
    for x, y in np.argwhere(reachable(scenario)):
        column, row = painter.pixel(x + 0.5, y + 0.5)
        assert 0 <= column < painter.width and painter.field_top <= row < painter.height


def test_walled_maps_are_cropped_to_the_ground_inside_the_walls() -> None:
    ground = reachable(make_scenario("2s_vs_1sc"))  # the specification's pentagon
    cells = {(x, y) for y in range(8, 20) for x in range(8, 20)}
    cells |= {(x, y) for y in (20, 21) for x in range(10, 18)} | {(x, y) for y in (22, 23) for x in range(12, 16)}
    assert {(int(x), int(y)) for x, y in np.argwhere(ground)} == cells
    assert make_scenario("2s_vs_1sc").terrain.pathable.sum() > len(cells)


@pytest.mark.parametrize(("unit", "owner", "share"), [(0, 0, 0.35), (3, 1, 0.75)])
def test_a_unit_is_drawn_at_its_place_in_its_team_s_colour(unit: int, owner: int, share: float) -> None:
    scenario = make_scenario("3m")
    picture = BattlePainter(scenario).paint(whole_units(scenario, {unit: (20.3, 12.6)}), battle())
    row, column = lane_pixel(20.3, 12.6)
    radius = 0.375 * LANE_SCALE
    rows, columns = np.mgrid[: picture.shape[0], : picture.shape[1]]
    inside = np.hypot(rows - row, columns - column) <= radius
    own, other = near_colour(picture, TEAM[owner]), near_colour(picture, TEAM[1 - owner])
    assert own[inside].mean() >= share  # an ally's number and a bar cover the rest
    assert not other[inside].any()
    around = (np.hypot(rows - row, columns - column) > radius + 3) & (rows >= 64)
    assert not (own & around).any()


def test_pixels_move_as_the_unit_does() -> None:
    scenario = make_scenario("3m")
    painter = BattlePainter(scenario)

    def centre(x: float, y: float) -> np.ndarray:
        picture = painter.paint(whole_units(scenario, {3: (x, y)}), battle())
        return np.argwhere(near_colour(picture, TEAM[1]) & (np.arange(painter.height) >= 64)[:, None]).mean(0)

    before, after = centre(10.0, 12.0), centre(13.0, 17.0)
    assert after - before == pytest.approx([-5 * LANE_SCALE, 3 * LANE_SCALE], abs=1.0)  # north is up
    assert before == pytest.approx(lane_pixel(10.0, 12.0), abs=2.0)


def test_the_dead_stay_as_a_faint_cross() -> None:
    scenario = make_scenario("3m")
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {3: (20.0, 14.0)})
    living = painter.paint(units, battle())
    units["health"][3] = 0.0
    dead = painter.paint(units, battle())
    units["x"][3], units["y"][3] = -50.0, -50.0
    gone = painter.paint(units, battle())
    row, column = lane_pixel(20.0, 14.0)
    box = np.s_[row - 8 : row + 9, column - 8 : column + 9]
    assert near_colour(living, TEAM[1])[box].sum() > 100
    assert near_colour(dead, TEAM[1])[box].sum() < 30
    assert 10 < changed(dead, gone)[box].sum() < 120
    assert (changed(dead, gone)[row, column], changed(dead, gone)[row - 6, column]) == (True, False)  # a cross


@pytest.mark.parametrize("share", [1.0, 0.75, 0.5, 0.2, 0.01])
@pytest.mark.parametrize(
    ("name", "unit", "bar", "colour"),
    [
        ("3m", 0, "health", HEALTH),
        ("2s3z", 0, "shield", SHIELD),
        ("2s3z", 5, "health", HEALTH),
        ("MMM", 9, "energy", ENERGY),
        ("2s_vs_1sc", 2, "health", HEALTH),
    ],
)
def test_bars_are_as_long_as_what_is_left(
    name: str, unit: int, bar: str, colour: tuple[int, int, int], share: float
) -> None:
    scenario = make_scenario(name)
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {unit: (14.0, 14.0)})

    def columns() -> int:
        return int(same_colour(painter.paint(units, battle())[64:], colour).any(0).sum())

    full = columns()
    assert full >= 14
    units[bar][unit] *= share
    assert columns() == pytest.approx(share * full, abs=1.0)
    assert (columns() == full) == (share == 1.0) and columns() >= 1


@pytest.mark.parametrize(("share", "pixels"), [(0.0, 0), (1e-9, 1), (0.5, 10), (0.999, 19), (1.0, 20), (2.0, 20)])
def test_a_bar_is_empty_only_at_nothing_and_full_only_at_all(share: float, pixels: int) -> None:
    assert bar_length(share, 20) == pixels


def test_the_panel_shows_each_side_s_health() -> None:
    scenario = make_scenario("3m")
    units = whole_units(scenario, {i: (10.0 + i, 12.0) for i in range(6)})
    units["health"] = [45, 0, 45, 9, 0, 18]
    picture = BattlePainter(scenario).paint(units, battle())
    line = picture[26]  # the bars' last rows but one, below their words
    # Of 240 pixels: 90 of 135, 27 of 135.
    assert same_colour(line[:320], TEAM[0]).sum() == pytest.approx(160, abs=1)
    assert same_colour(line[320:], TEAM[1]).sum() == pytest.approx(48, abs=1)


def test_unhurt_units_of_a_crowd_have_no_bars() -> None:
    scenario = make_scenario("25m")
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {0: (14.0, 14.0)})
    assert not same_colour(painter.paint(units, battle())[64:], HEALTH).any()
    units["health"][0] = 44.0
    assert same_colour(painter.paint(units, battle())[64:], HEALTH).any()


def shooting(cooldown: float) -> tuple[BattlePainter, np.ndarray]:
    """Marine 0 at (10, 14) has last attacked enemy 3 at (14, 14)."""
    scenario = make_scenario("3m")
    units = whole_units(scenario, {0: (10.0, 14.0), 3: (14.0, 14.0)})
    units["strike_target"][0], units["cooldown"][0] = 3, cooldown
    return BattlePainter(scenario), units


def test_a_shot_is_seen_between_the_two_and_only_when_fired() -> None:
    painter, units = shooting(13.0)
    before = units.copy()
    before["cooldown"][0] = 1.0
    shot = painter.paint(units, battle(), previous=before)
    later = painter.paint(units, battle(), previous=units)
    ready = units.copy()
    ready["cooldown"][0] = 0.0
    assert (later == painter.paint(ready, battle())).all()
    row, column = lane_pixel(12.0, 14.0)
    strip = changed(shot, later)[row - 3 : row + 4, column]
    assert strip.any() and shot[row, column].sum() > later[row, column].sum() + 150
    rows = np.flatnonzero(changed(shot, later).any(1))
    assert row - 8 <= rows.min() and rows.max() <= row + 8
    columns = np.flatnonzero(changed(shot, later).any(0))
    assert lane_pixel(10.3, 14.0)[1] <= columns.min() and columns.max() <= lane_pixel(14.0, 14.0)[1]


@pytest.mark.parametrize(
    ("cooldown", "loops", "seen"),
    [
        (13.77 + 1.9, 2, True),  # just now, with the longest delay
        (13.77 - 1.0 - 1.9, 2, True),  # two loops ago, with the shortest
        (13.77 + 2.0 - 5.1, 2, False),  # more than 5 loops ago, whatever the delay
        (13.77 - 1.0 - 7.9, 8, True),
        (13.77 + 2.0 - 11.1, 8, False),
        (0.0, 8, False),
    ],
)
def test_a_cooldown_tells_a_shot(cooldown: float, loops: int, seen: bool) -> None:
    painter, units = shooting(cooldown)
    assert just_fired(units, painter.kinds, loops).tolist() == [seen] + [False] * 5


def test_hits_to_come_count_as_a_shot_and_the_dead_do_not_shoot() -> None:
    painter, units = shooting(0.0)
    before = units.copy()
    units["strikes_left"][0] = 1
    assert just_fired(units, painter.kinds, 2, before)[0] and just_fired(units, painter.kinds, 2)[0]
    units["strikes_left"][0], before["strikes_left"][0] = 0, 1
    assert just_fired(units, painter.kinds, 2, before)[0] and not just_fired(units, painter.kinds, 2)[0]
    units["health"][0] = 0.0
    assert not just_fired(units, painter.kinds, 2, before).any()


def played(name: str, steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (units before, units after) of every two loops of a battle in which the allies focus their fire."""
    env = smac_sim_v0.parallel_env(map_name=name, render_mode="rgb_array")
    env.reset(seed=3)
    player = PLAYERS["focus-fire"](env.battles.scenario, 1, 0)
    before = env.snapshots[-1][0]
    while env.agents and steps:
        actions = player.act(env.battles.units, env.battles.battles, env.battles.mask)[0]
        env.step({agent: int(actions[env.possible_agents.index(agent)]) for agent in env.agents})
        for units, _ in env.snapshots:
            yield before, units
            before = units
        steps -= 1


@pytest.mark.parametrize("name", ["3m", "2s3z"])
def test_in_a_battle_shots_are_seen_where_damage_is_done(name: str) -> None:
    kinds = make_scenario(name).kinds
    hits = 0
    for before, units in played(name, 60):
        fired = just_fired(units, kinds, 2, before)
        lost = (before["health"] + before["shield"]) - (units["health"] + units["shield"])
        for victim in np.flatnonzero(lost > 1.0):
            attacker = units["attacker"][victim]
            if units["health"][attacker] > 0.0:
                hits += 1
                assert fired[attacker]
        for shooter in np.flatnonzero(fired & (units["strikes_left"] == 0) & (before["strikes_left"] == 0)):
            assert lost[units["strike_target"][shooter]] > 0.0
    assert hits > 10


def test_a_move_has_an_arrow_towards_its_point() -> None:
    scenario = make_scenario("3m")
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {0: (10.0, 14.0)})
    plain = painter.paint(units, battle())
    units["order"][0], units["order_x"][0], units["order_y"][0] = ORDER_MOVE, 10.0, 16.0
    there = np.argwhere(changed(painter.paint(units, battle()), plain))
    (tip, column), (start, _) = lane_pixel(10.0, 16.0), lane_pixel(10.0, 14.3)
    assert there[:, 0].min() == pytest.approx(tip, abs=2) and there[:, 0].max() <= start
    assert abs(there[:, 1] - column).max() <= 4


def test_an_attack_order_has_a_line_to_its_target() -> None:
    painter, units = shooting(0.0)
    plain = painter.paint(units, battle())
    units["order"][0], units["order_target"][0] = ORDER_ATTACK, 3
    lines = changed(painter.paint(units, battle()), plain)
    row = lane_pixel(10.0, 14.0)[0]
    assert np.flatnonzero(lines.any(1)).tolist() == pytest.approx([row] * lines.any(1).sum(), abs=2)
    between = lines[row - 2 : row + 3, lane_pixel(10.5, 14.0)[1] : lane_pixel(13.5, 14.0)[1]].any(0)
    assert 0.2 < between.mean() < 0.8  # dashes
    units["health"][3] = 0.0
    dead = painter.paint(units, battle())
    units["order_target"][0] = -1
    assert (dead == painter.paint(units, battle())).all()


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ({}, True),
        ({"health": (2, 45.0)}, False),  # not hurt
        ({"x": (2, 20.0)}, False),  # too far
        ({"energy": (9, 0.0)}, False),
        ({"health": (9, 0.0)}, False),
    ],
)
def test_a_heal_is_a_green_beam(change: dict[str, tuple[int, float]], seen: bool) -> None:
    scenario = make_scenario("MMM")
    units = whole_units(scenario, {2: (13.0, 14.0), 9: (10.0, 14.0)})
    units["order"][9], units["order_target"][9], units["target"][9], units["health"][2] = ORDER_HEAL, 2, 2, 20.0
    for name, (index, value) in change.items():
        units[name][index] = value
    picture = BattlePainter(scenario).paint(units, battle())
    row, column = lane_pixel(11.8, 14.0)
    assert near_colour(picture, HEAL)[row - 2 : row + 3, column].any() == seen


def test_a_baneling_that_blew_up_shows_its_blast_once() -> None:
    scenario = make_scenario("so_many_baneling")
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {7: (15.0, 13.0)})
    before = units.copy()
    units["health"][7] = 0.0
    assert just_blasted(units, painter.kinds, before).nonzero()[0].tolist() == [7]
    assert not just_blasted(units, painter.kinds, units).any()
    blast, later = painter.paint(units, battle(), previous=before), painter.paint(units, battle(), previous=units)
    column, row = painter.pixel(15.0, 13.0)
    there = np.argwhere(changed(blast, later)) - [row, column]
    assert np.hypot(*there.T).max() == pytest.approx(2.2 * painter.view.scale, abs=1.5)


def test_a_colossus_burns_a_line_across_its_fire() -> None:
    scenario = make_scenario("1c3s5z")
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {0: (10.0, 14.0)})
    quiet = painter.paint(units, battle())
    units["strike_target"][0], units["strikes_left"][0] = 9, 2
    units["strike_x"][0], units["strike_y"][0], units["strike_dx"][0] = 16.0, 14.0, 1.0
    picture = painter.paint(units, battle())
    bright = near_colour(picture, (255, 255, 255), 30) & changed(picture, quiet)
    rows, columns = np.nonzero(bright)
    assert columns == pytest.approx(np.full(len(columns), lane_pixel(16.0, 14.0)[1]), abs=2)
    assert rows.max() - rows.min() == pytest.approx(2.5 * LANE_SCALE, abs=3)  # 1.25 to either side


def test_a_shooter_s_reach_is_a_circle_and_a_fighter_s_is_not_drawn() -> None:
    scenario = make_scenario("3s_vs_3z")  # 32 x 32 cells
    painter = BattlePainter(scenario)
    ground = painter.paint(whole_units(scenario, {}), battle())
    stalker = painter.paint(whole_units(scenario, {0: (16.0, 16.0)}), battle())
    zealot = painter.paint(whole_units(scenario, {3: (16.0, 16.0)}), battle())
    scale = 640 / 34
    centre = np.array([64 + 17 * scale, 17 * scale])

    def extent(picture: np.ndarray) -> float:
        there = np.argwhere(changed(picture, ground)) * 1.0
        there = there[there[:, 0] >= 64]  # below the panel
        return float(np.hypot(*(there + 0.5 - centre).T).max())

    assert extent(stalker) == pytest.approx((6 + 0.625) * scale, abs=1.5)
    assert extent(zealot) < 1.0 * scale


def test_the_result_is_told() -> None:
    scenario = make_scenario("3m")
    painter = BattlePainter(scenario)
    units = whole_units(scenario, {0: (10.0, 14.0)})
    told = {}
    for result, truncated in ((0, 0), (WIN, 0), (DEFEAT, 0), (DRAW, 0), (0, 1), (WIN, 1)):
        at = battle()
        at["result"], at["truncated"] = result, truncated
        told[result, truncated] = result_words(at)[0]
        assert changed(painter.paint(units, at), painter.paint(units, battle())).any() == (
            (result, truncated) != (0, 0)
        )
    assert list(told.values()) == ["", "WIN", "DEFEAT", "DRAW", "TIME LIMIT", "WIN"]


def test_steps_and_caption_are_written_and_nothing_else_changes() -> None:
    painter, units = shooting(0.0)
    copy, at = units.copy(), battle()
    plain = painter.paint(units, at)
    at["steps"] = 7
    assert set(np.flatnonzero(changed(painter.paint(units, at), plain).any(1))) <= set(range(22, 42))
    captioned = np.flatnonzero(changed(painter.paint(units, battle(), caption="by hand"), plain).any(1))
    assert captioned.size and captioned.min() > painter.height - 24
    assert (units == copy).all() and (painter.paint(units, battle()) == plain).all()


@pytest.mark.parametrize(
    ("size", "error", "words"),
    [(10, ValueError, "at least 160"), (5000, ValueError, "at most 4096"), (99.5, TypeError, "integer")],
)
def test_impossible_sizes_are_refused(size: object, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        BattlePainter(make_scenario("3m"), size)  # type: ignore[arg-type]


def test_other_arrays_are_refused() -> None:
    painter, units = shooting(0.0)
    with pytest.raises(ValueError, match=r"units must be UNIT of shape \(6,\), one battle of 3m, got UNIT of shape"):
        painter.paint(units[:4], battle())
    with pytest.raises(ValueError, match="got float64"):
        painter.paint(np.zeros(6), battle())
    with pytest.raises(ValueError, match="previous must be"):
        painter.paint(units, battle(), previous=units[:1])
    with pytest.raises(ValueError, match="one BATTLE"):
        painter.paint(units, np.zeros(1, BATTLE))


# Films.


def moving_square(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    frames = np.full((count, height, width, 3), (30, 34, 40), np.uint8)
    for index in range(count):
        frames[index, 10:14, index : index + 4] = (250, 60, 20)
    return list(frames)


def gif_times(path: Path) -> list[int]:
    """Milliseconds of each picture."""
    with Image.open(path) as image:
        times = []
        for index in range(getattr(image, "n_frames", 1)):
            image.seek(index)
            times.append(image.info["duration"])
        return times


@pytest.mark.parametrize(("count", "fps", "hold"), [(7, 10.0, 0.0), (28, 11.2, 1.5), (3, 50.0, 0.25), (1, 4.0, 0.0)])
def test_a_gif_has_every_picture_for_its_time(tmp_path: Path, count: int, fps: float, hold: float) -> None:
    path = tmp_path / "film.gif"
    write_video(moving_square(count), path, fps, hold)
    times = gif_times(path)
    assert len(times) == count
    assert sum(times) == pytest.approx(1000 * (count / fps + hold), abs=10)
    assert all(time == pytest.approx(1000 / fps, abs=10) for time in times[:-1])
    with Image.open(path) as image:
        assert image.size == (64, 48) and (count == 1 or image.info["loop"] == 0)
        for index in range(count):
            image.seek(index)
            assert near_colour(np.asarray(image.convert("RGB")), (250, 60, 20))[11, index + 1]


def test_a_gif_keeps_the_colours_of_small_things(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 120, (20, 120, 160, 3), np.uint8)  # far more than 256 colours
    noise[:, :60] = (50, 56, 66)
    noise[11, 30, 40:46] = (206, 140, 255)
    path = tmp_path / "film.gif"
    write_video(list(noise), path, 10)
    with Image.open(path) as image:
        image.seek(11)
        picture = np.asarray(image.convert("RGB"))
    assert near_colour(picture[30, 40:46], (206, 140, 255), 25).all()
    assert same_colour(picture[:29], (50, 56, 66)).all()


def test_an_mp4_has_every_picture_and_an_even_size(tmp_path: Path) -> None:
    imageio = pytest.importorskip("imageio.v2")
    pytest.importorskip("imageio_ffmpeg")
    path = tmp_path / "film.MP4"
    write_video(iter(moving_square(9, 49, 65)), path, 10, hold=0.5)
    with imageio.get_reader(path, format="FFMPEG") as reader:
        about, frames = reader.get_meta_data(), [np.asarray(frame) for frame in reader]
    assert about["fps"] == pytest.approx(10) and about["size"] == (64, 48)
    assert "h264" in about["codec"] and "yuv420p" in about["pix_fmt"]
    assert len(frames) == 9 + 5
    red = frames[-1][..., 0].astype(int) - frames[0][..., 0]
    assert red[11, 10] > 80 and red[11, 1] < -80  # the square has moved from columns 0-3 to 8-11
    assert abs(frames[-1].astype(int) - frames[8]).max() < 20  # the last one is held


def test_a_film_that_breaks_off_leaves_the_old_file(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from moving_square(3)
        raise RuntimeError("the battle broke off")

    for name in ("film.gif", "film.mp4"):
        (tmp_path / name).write_bytes(b"old")
        with pytest.raises(RuntimeError, match="broke off"):
            write_video(broken(), tmp_path / name, 10)
        assert (tmp_path / name).read_bytes() == b"old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.gif", "film.mp4"]


@pytest.mark.parametrize(
    ("name", "fps", "hold", "words"),
    [
        ("film.webm", 10, 0, r"\.gif or \.mp4"),
        ("film", 10, 0, r"\.gif or \.mp4"),
        ("film.gif", 0, 0, "positive"),
        ("film.gif", math.nan, 0, "positive"),
        ("film.gif", 60, 0, r"at most 50.*\.mp4"),
        ("film.gif", 10, -1, "at least 0"),
    ],
)
def test_impossible_films_are_refused(tmp_path: Path, name: str, fps: float, hold: float, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write_video(moving_square(2), tmp_path / name, fps, hold)
    assert not list(tmp_path.iterdir())


def test_impossible_pictures_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "film.gif"
    with pytest.raises(ValueError, match="at least one picture"):
        write_video([], path, 10)
    with pytest.raises(ValueError, match="picture 1 has shape"):
        write_video([*moving_square(1), *moving_square(1, 20, 20)], path, 10)
    with pytest.raises(ValueError, match="float64"):
        write_video([np.zeros((4, 4, 3))], path, 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("missing", ["imageio.v2", "imageio_ffmpeg"])
def test_an_mp4_without_its_packages_names_the_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ImportError, match=r"smix-pz\[video\]"):
        check_video("film.mp4", 10)
    check_video("film.gif", 10)


@pytest.mark.parametrize(("one", "other"), [TEAM, (HEALTH, SHIELD), (HEALTH, ENERGY)])
def test_colours_are_told_apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> None:
    """Also by those who see no difference of red and green: by lightness, or by blue against yellow."""
    first, second = np.array(one, float), np.array(other, float)
    blue = abs((first[2] - first[:2].mean()) - (second[2] - second[:2].mean()))
    light = abs((first - second) @ [0.3, 0.59, 0.11])
    assert max(blue, light) > 100
