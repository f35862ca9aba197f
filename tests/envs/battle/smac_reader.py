"""SMAC's layout once more: slow, plain, and written from the SMAC specification alone (sections 1 to 5).

An oracle for `smix_pz.envs.battle.layout`. It imports nothing of the package. A battle is a list of dicts, one for each
unit, agents first; a grid is a list of columns.
"""

from __future__ import annotations

import math

# section 6.1: life, shield; section 3.3: divisor of the cooldown
BODY = {
    "marine": (45, 0, 15),
    "marauder": (125, 0, 25),
    "medivac": (150, 0, 15),
    "stalker": (80, 80, 35),
    "zealot": (100, 50, 22),
    "colossus": (200, 150, 24),
    "spine_crawler": (300, 0, 15),
    "zergling": (35, 0, 11),
    "baneling": (30, 0, 1),
    "hydralisk": (80, 0, 10),
}

# Sections 1 and 1.1: allies in agent order, enemies in order of creation, races, limit, type bits.
SETUP = {
    "3m": ("3 marine", "3 marine", "TT", 60, 0),
    "8m": ("8 marine", "8 marine", "TT", 120, 0),
    "25m": ("25 marine", "25 marine", "TT", 150, 0),
    "2s3z": ("2 stalker, 3 zealot", "2 stalker, 3 zealot", "PP", 120, 2),
    "3s5z": ("3 stalker, 5 zealot", "3 stalker, 5 zealot", "PP", 150, 2),
    "2m_vs_1z": ("2 marine", "1 zealot", "TP", 150, 0),
    "2s_vs_1sc": ("2 stalker", "1 spine_crawler", "PZ", 300, 0),
    "3s_vs_3z": ("3 stalker", "3 zealot", "PP", 150, 0),
    "1c3s5z": ("1 colossus, 3 stalker, 5 zealot", "1 colossus, 3 stalker, 5 zealot", "PP", 180, 3),
    "MMM": ("2 marauder, 7 marine, 1 medivac", "7 marine, 2 marauder, 1 medivac", "TT", 150, 3),
    "5m_vs_6m": ("5 marine", "6 marine", "TT", 70, 0),
    "8m_vs_9m": ("8 marine", "9 marine", "TT", 120, 0),
    "10m_vs_11m": ("10 marine", "11 marine", "TT", 150, 0),
    "27m_vs_30m": ("27 marine", "30 marine", "TT", 180, 0),
    "MMM2": ("2 marauder, 7 marine, 1 medivac", "8 marine, 3 marauder, 1 medivac", "TT", 180, 3),
    "3s5z_vs_3s6z": ("3 stalker, 5 zealot", "3 stalker, 6 zealot", "PP", 170, 2),
    "3s_vs_4z": ("3 stalker", "4 zealot", "PP", 200, 0),
    "3s_vs_5z": ("3 stalker", "5 zealot", "PP", 250, 0),
    "corridor": ("6 zealot", "24 zergling", "PZ", 400, 0),
    "6h_vs_8z": ("6 hydralisk", "8 zealot", "ZP", 150, 0),
    "so_many_baneling": ("7 zealot", "32 baneling", "PZ", 100, 0),
    "bane_vs_bane": ("4 baneling, 20 zergling", "20 zergling, 4 baneling", "ZZ", 200, 2),
    "2c_vs_64zg": ("2 colossus", "64 zergling", "PZ", 400, 0),
}

ALLY_BIT = {
    "2s3z": "stalker zealot",
    "3s5z": "stalker zealot",
    "3s5z_vs_3s6z": "stalker zealot",
    "1c3s5z": "colossus stalker zealot",
    "MMM": "marauder marine medivac",
    "MMM2": "marauder marine medivac",
    "bane_vs_bane": "baneling zergling",
}
ENEMY_BIT = {
    **ALLY_BIT,
    "2s3z": "zealot stalker",
    "3s5z": "zealot stalker",
    "3s5z_vs_3s6z": "zealot stalker",
}

# section 3.1
DEFAULTS = {
    "move_amount": 2,
    "obs_all_health": True,
    "obs_own_health": True,
    "obs_last_action": False,
    "obs_pathing_grid": False,
    "obs_terrain_height": False,
    "obs_timestep_number": False,
    "obs_instead_of_state": False,
    "state_last_action": True,
    "state_timestep_number": False,
    "reward_sparse": False,
    "reward_only_positive": True,
    "reward_death_value": 10,
    "reward_win": 200,
    "reward_defeat": 0,
    "reward_negative_scale": 0.5,
    "reward_scale": True,
    "reward_scale_rate": 20,
}


def types_of(text):
    """Unit types of an army such as "2 stalker, 3 zealot"."""
    types = []
    for group in text.split(", "):
        count, unit = group.split(" ")
        types += [unit] * int(count)
    return types


class SlowSmac:
    """One map with options; every method takes the units as dicts with type, x, y, health, shield, energy, cooldown."""

    def __init__(self, name, grid, heights, **options):
        allies, enemies, races, self.limit, self.bits = SETUP[name]
        self.name, self.grid, self.heights = name, grid, heights
        self.ally_types, self.enemy_types = types_of(allies), types_of(enemies)
        self.ally_shield, self.enemy_shield = races[0] == "P", races[1] == "P"
        self.mmm = name in ("MMM", "MMM2")
        self.o = {**DEFAULTS, **options}
        if self.o["obs_all_health"]:
            self.o["obs_own_health"] = True
        self.a, self.e = len(self.ally_types), len(self.enemy_types)
        self.n_actions = 6 + self.e

    # -- geometry ------------------------------------------------------------------------------------------------------

    def open_at(self, x, y):
        if not (0 <= x < 32 and 0 <= y < 32):
            return False
        return bool(self.grid[x][y])

    def around(self, unit):
        x, y, m = int(unit["x"]), int(unit["y"]), int(self.o["move_amount"])
        return [
            (x, y + 2 * m),
            (x, y - 2 * m),
            (x + 2 * m, y),
            (x - 2 * m, y),
            (x + m, y + m),
            (x - m, y - m),
            (x + m, y - m),
            (x - m, y + m),
        ]

    @staticmethod
    def apart(one, other):
        return math.hypot(other["x"] - one["x"], other["y"] - one["y"])

    # -- section 2 -----------------------------------------------------------------------------------------------------

    def mask(self, units, i):
        me = units[i]
        if me["health"] == 0:
            return [1] + [0] * (self.n_actions - 1)
        half = self.o["move_amount"] / 2
        row = [0, 1]
        row.append(int(self.open_at(int(me["x"]), int(me["y"] + half))))
        row.append(int(self.open_at(int(me["x"]), int(me["y"] - half))))
        row.append(int(self.open_at(int(me["x"] + half), int(me["y"]))))
        row.append(int(self.open_at(int(me["x"] - half), int(me["y"]))))
        row += [0] * self.e
        if self.mmm and me["type"] == "medivac":
            for j in range(self.a):
                friend = units[j]
                if friend["type"] != "medivac" and friend["health"] > 0 and self.apart(me, friend) <= 6:
                    row[6 + j] = 1
        else:
            for j in range(self.e):
                foe = units[self.a + j]
                if foe["health"] > 0 and self.apart(me, foe) <= 6:
                    row[6 + j] = 1
        return row

    def commands(self, units, masks, actions):
        """For each agent (executed action, replaced?, command); a command is None (nothing) or a tuple."""
        result = []
        for i in range(self.a):
            me, action = units[i], actions[i]
            legal = 0 <= action < self.n_actions and masks[i][action] == 1
            if not legal:
                action = 1 if me["health"] > 0 else 0
            m = self.o["move_amount"]
            if action == 0:
                command = None
            elif action == 1:
                command = ("stop",)
            elif action <= 5:
                dx, dy = {2: (0, m), 3: (0, -m), 4: (m, 0), 5: (-m, 0)}[action]
                command = ("move", me["x"] + dx, me["y"] + dy)
            elif self.mmm and me["type"] == "medivac":
                command = ("heal", action - 6)
            else:
                command = ("attack", self.a + action - 6)
            result.append((action, not legal, command))
        return result

    # -- section 3 -----------------------------------------------------------------------------------------------------

    def health(self, unit):
        return unit["health"] / BODY[unit["type"]][0]

    def shield(self, unit):
        most = BODY[unit["type"]][1]
        return unit["shield"] / most if most else 0.0

    def one_hot(self, unit, table):
        if not self.bits:
            return []
        names = table[self.name].split(" ")
        return [float(names[b] == unit["type"]) for b in range(self.bits)]

    def ally_actions(self, last_actions, i):
        row = [0.0] * self.n_actions
        if last_actions is not None and last_actions[i] >= 0:
            row[last_actions[i]] = 1.0
        return row

    def observation(self, units, last_actions, steps, i):
        me = units[i]
        o = self.o
        mask = self.mask(units, i)
        view = [float(v) for v in mask[2:6]]
        if o["obs_pathing_grid"]:
            for x, y in self.around(me):
                inside = 0 <= x < 32 and 0 <= y < 32
                view.append(float(self.grid[x][y]) if inside else 1.0)
        if o["obs_terrain_height"]:
            for x, y in [*self.around(me), (int(me["x"]), int(me["y"]))]:
                inside = 0 <= x < 32 and 0 <= y < 32
                view.append(self.heights[x][y] / 255 if inside else 1.0)
        for j in range(self.e):
            foe = units[self.a + j]
            row = [float(mask[6 + j]), self.apart(me, foe) / 9, (foe["x"] - me["x"]) / 9, (foe["y"] - me["y"]) / 9]
            if o["obs_all_health"]:
                row.append(self.health(foe))
                if self.enemy_shield:
                    row.append(self.shield(foe))
            row += self.one_hot(foe, ENEMY_BIT)
            if foe["health"] == 0 or not self.apart(me, foe) < 9:
                row = [0.0] * len(row)
            view += row
        for j in range(self.a):
            if j == i:
                continue
            friend = units[j]
            row = [1.0, self.apart(me, friend) / 9, (friend["x"] - me["x"]) / 9, (friend["y"] - me["y"]) / 9]
            if o["obs_all_health"]:
                row.append(self.health(friend))
                if self.ally_shield:
                    row.append(self.shield(friend))
            row += self.one_hot(friend, ALLY_BIT)
            if o["obs_last_action"]:
                row += self.ally_actions(last_actions, j)
            if friend["health"] == 0 or not self.apart(me, friend) < 9:
                row = [0.0] * len(row)
            view += row
        if o["obs_own_health"]:
            view.append(self.health(me))
            if self.ally_shield:
                view.append(self.shield(me))
        view += self.one_hot(me, ALLY_BIT)
        if me["health"] == 0:
            view = [0.0] * len(view)
        if o["obs_timestep_number"]:
            view.append(steps / self.limit)
        return view

    def state(self, units, last_actions, steps):
        if self.o["obs_instead_of_state"]:
            return [v for i in range(self.a) for v in self.observation(units, last_actions, steps, i)]
        whole = []
        for i in range(self.a):
            me = units[i]
            if self.mmm and me["type"] == "medivac":
                second = me["energy"] / 200
            else:
                second = me["cooldown"] / BODY[me["type"]][2]
            row = [self.health(me), second, (me["x"] - 16) / 32, (me["y"] - 16) / 32]
            if self.ally_shield:
                row.append(self.shield(me))
            row += self.one_hot(me, ALLY_BIT)
            whole += row if me["health"] > 0 else [0.0] * len(row)
        for foe in units[self.a :]:
            row = [self.health(foe), (foe["x"] - 16) / 32, (foe["y"] - 16) / 32]
            if self.enemy_shield:
                row.append(self.shield(foe))
            row += self.one_hot(foe, ENEMY_BIT)
            whole += row if foe["health"] > 0 else [0.0] * len(row)
        if self.o["state_last_action"]:
            for i in range(self.a):
                whole += self.ally_actions(last_actions, i)
        if self.o["state_timestep_number"]:
            whole.append(steps / self.limit)
        return whole

    # -- sections 4 and 5 ----------------------------------------------------------------------------------------------

    def max_reward(self):
        total = self.e * self.o["reward_death_value"] + self.o["reward_win"]
        return total + sum(BODY[t][0] + BODY[t][1] for t in self.enemy_types)

    def end_code(self, units):
        allies = [u for u in units[: self.a] if u["health"] > 0]
        enemies = [u for u in units[self.a :] if u["health"] > 0]
        if not allies and enemies:
            return -1
        if self.mmm and not [u for u in allies if u["type"] != "medivac"]:
            return -1
        if allies and not enemies:
            return 1
        if self.mmm and len(enemies) == 1 and enemies[0]["type"] == "medivac":
            return 1
        if not allies and not enemies:
            return 0
        return None

    def reward(self, before, units, dead, clip=False):
        """Reward of a step. `before` holds (health, shield) of each unit as of the last one; `dead` is a set of units
        whose death was counted, and is brought up to date."""
        o = self.o
        delta_enemy = delta_ally = deaths = 0.0
        for u, unit in enumerate(units):
            if u in dead:
                continue
            previous = before[u][0] + before[u][1]
            ally = u < self.a
            if unit["health"] == 0:
                dead.add(u)
                change = previous
                if not ally:
                    deaths += o["reward_death_value"]
                elif not o["reward_only_positive"]:
                    deaths -= o["reward_death_value"] * o["reward_negative_scale"]
            else:
                change = previous - unit["health"] - unit["shield"]
            if ally:
                delta_ally += o["reward_negative_scale"] * change
            else:
                delta_enemy += change
        if o["reward_only_positive"]:
            raw = delta_enemy + deaths
            raw = max(raw, 0) if clip else abs(raw)
        else:
            raw = delta_enemy + deaths - delta_ally
        code = self.end_code(units)
        if o["reward_sparse"]:
            raw = {None: 0, 0: 0, 1: 1, -1: -1}[code]
        elif code == 1:
            raw += o["reward_win"]
        elif code == -1:
            raw += o["reward_defeat"]
        if o["reward_scale"]:
            raw /= self.max_reward() / o["reward_scale_rate"]
        return raw
