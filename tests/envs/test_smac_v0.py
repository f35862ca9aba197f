"""smac_v0: the contract it shares with smac_sim_v0, crashes, processes, seeds and errors.

StarCraft II is not available to the tests, so that stand-ins play (`fake_starcraft`). The tests at the end use SMAC's
own code where its packages are installed, and StarCraft itself where SC2PATH says it is.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import logging
import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from fake_starcraft import (
    PIDS,
    FakeConnectionError,
    FakeRunConfig,
    FakeSmacEnv,
    FakeStarCraft2Env,
    Faults,
    living_pids,
)
from smac_contract import concentrated_fire, contract, play_to_end, stand

from smix_pz.doctor import find_package
from smix_pz.envs import TeamEnv, make_vector_env, smac_sim_v0, smac_v0, starcraft
from smix_pz.envs.battle.layout import Layout, LayoutOptions
from smix_pz.envs.battle.maps import MAPS
from smix_pz.envs.battle.scenario import make_scenario

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def pids(tmp_path, monkeypatch):
    """The file of launched processes; whatever a test leaves running fails it."""
    path = tmp_path / "pids"
    monkeypatch.setenv(PIDS, str(path))
    monkeypatch.setattr(smac_v0, "LAUNCH_PAUSES", (0.0, 0.0, 0.0))
    yield path
    gc.collect()
    assert living_pids(path) == []


def launched(path):
    return len(path.read_text().split()) if path.exists() else 0


@contract
def test_contract(check, arguments):
    check(FakeSmacEnv, *arguments)


@contract
def test_contract_of_the_twin(check, arguments):
    check(smac_sim_v0.parallel_env, *arguments)


# ---------------------------------------------------------------- launching and closing


def test_nothing_is_started_before_the_first_reset(pids):
    env = FakeSmacEnv("MMM")
    assert launched(pids) == 0
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.state()
    env.reset()
    assert launched(pids) == 1 and len(living_pids(pids)) == 1
    env.close()
    env.close()
    assert living_pids(pids) == []
    env.reset()  # and on again
    assert len(living_pids(pids)) == 1
    env.close()
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({"marine_0": 1})


def test_the_stand_in_leaks_and_miscounts_as_smac_does(pids):
    """Else the next test would prove nothing."""
    bare = FakeStarCraft2Env(Faults(), "3m")
    bare.reset()
    first = bare._sc2_proc
    bare.reset()
    assert len(living_pids(pids)) == 2
    assert bare.max_reward == 10 * 3 + 200 + 2 * 3 * 45
    bare.close()
    first.close()


def test_resets_before_the_end_of_the_first_episode(pids):
    env = FakeSmacEnv("3m")
    for _ in range(3):
        env.reset()
        env.step(stand(env))
    env.reset()
    env.reset()
    assert launched(pids) == 1
    assert env.smac.max_reward == 10 * 3 + 200 + 3 * 45  # 365, section 1
    env.close()


def test_a_reset_right_after_a_reset_plays_nothing():
    faults = Faults()
    env = FakeSmacEnv("3m", faults=faults)
    first, _ = env.reset()
    again, _ = env.reset()
    np.testing.assert_array_equal(first["marine_1"]["observation"], again["marine_1"]["observation"])
    assert faults.count["kill"] == 0
    env.step(stand(env))
    env.reset()
    assert faults.count["kill"] == 1
    env.close()


def test_processes_end_with_the_object(pids):
    env = FakeSmacEnv("3m")
    env.reset()
    del env
    gc.collect()
    assert launched(pids) == 1 and living_pids(pids) == []


@pytest.mark.parametrize("last_words", ["", "raise SystemExit(3)", "1 / 0"])
def test_processes_end_with_python(pids, last_words):
    script = f"""
        import sys
        sys.path.insert(0, {str(HERE)!r})
        from fake_starcraft import FakeSmacEnv
        env = FakeSmacEnv("3m")
        env.reset()
        {last_words}
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, check=False, timeout=120)
    assert launched(pids) == 1 and living_pids(pids) == []


def play_and_end(how):
    env = FakeSmacEnv("3m")
    env.reset()
    if how == "raise":
        raise KeyError("on purpose")


@pytest.mark.parametrize("how", ["return", "raise"])
def test_processes_end_with_workers(pids, how):
    worker = multiprocessing.get_context("fork").Process(target=play_and_end, args=(how,))
    worker.start()
    worker.join(60)
    assert launched(pids) == 1 and living_pids(pids) == []


def test_a_forked_child_does_not_close_its_parents_game(pids):
    env = FakeSmacEnv("3m")
    env.reset()
    child = multiprocessing.get_context("fork").Process(target=env.close)
    child.start()
    child.join(60)
    assert len(living_pids(pids)) == 1
    env.step(stand(env))
    env.close()


def test_processes_end_with_an_error(pids, monkeypatch):
    env = FakeSmacEnv("3m")
    env.reset()
    monkeypatch.setattr(env.smac, "get_state", lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        env.step(stand(env))
    assert living_pids(pids) == []
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({"marine_0": 1})
    env.reset()
    assert len(living_pids(pids)) == 1 and env.agents
    env.close()


def test_a_process_that_cannot_be_closed_is_killed(pids):
    env = FakeSmacEnv("3m", faults=Faults(close={1}))
    env.reset()
    env.close()
    assert living_pids(pids) == []


# ---------------------------------------------------------------- crashes


@pytest.mark.parametrize("call", [{"step": {4}}, {"observe": {5}}])
def test_a_crash_in_a_step_aborts_the_episode(pids, call, caplog):
    env = FakeSmacEnv("3m", faults=Faults(**call), continuing_episode=True)
    env.reset(seed=1)
    for _ in range(3):
        last, *_ = env.step(stand(env))
    state = env.state()
    with caplog.at_level(logging.WARNING):
        observations, rewards, terminations, truncations, infos = env.step(stand(env))
    assert "aborted" in caplog.text
    assert living_pids(pids) == [] and env.agents == []
    assert list(rewards.values()) == [0.0] * 3
    assert list(terminations.values()) == [False] * 3 and list(truncations.values()) == [True] * 3
    for agent in env.possible_agents:
        np.testing.assert_array_equal(observations[agent]["observation"], last[agent]["observation"])
        assert infos[agent]["aborted"] is True and infos[agent]["battle_won"] is False
        assert "episode_limit" not in infos[agent]
    np.testing.assert_array_equal(env.state(), state)
    assert env.get_stats() | {"aborted": 1, "battles_game": 0, "win_rate": 0.0} == env.get_stats()
    _, infos = env.reset()
    assert env.launches == 2 and len(living_pids(pids)) == 1
    assert "aborted" not in infos["marine_0"] and len(env.agents) == 3
    env.close()


def test_the_episode_after_a_crash_begins_with_all_units():
    """SMAC would kill units of the new game whose tags were those of the old one's living units."""
    env = FakeSmacEnv("3m", faults=Faults(step={14}))
    env.reset(seed=0)
    infos = {"marine_0": {}}
    while env.agents:
        *_, infos = env.step(stand(env))
    assert next(iter(infos.values())).get("aborted")
    env.reset()
    np.testing.assert_allclose(env.state()[[0, 4, 8, 12, 15, 18]], 1.0)  # everyone's health
    env.close()


@pytest.mark.parametrize("call", [{"kill": {1}}, {"step": {2}}, {"observe": {3}}, {"launch": {1}}, {"spawn": {1}}])
def test_a_crash_in_reset_is_repaired(pids, call):
    faults = Faults(**call)
    env = FakeSmacEnv("3m", faults=faults)
    env.reset(seed=0)
    env.step(stand(env))  # step 1, observe 2
    _, infos = env.reset()  # kill 1, step 2, observe 3
    assert all(faults.count[name] >= max(numbers) for name, numbers in call.items())
    assert env.launches == 2 and len(living_pids(pids)) == 1
    assert "aborted" not in infos["marine_0"] and env.agents == env.possible_agents
    np.testing.assert_allclose(env.state()[[0, 4, 8, 12, 15, 18]], 1.0)
    env.close()


def test_a_game_that_cannot_be_started_is_an_error_in_the_end(pids):
    env = FakeSmacEnv("3m", faults=Faults(launch={1, 2, 3}))
    with pytest.raises(RuntimeError, match=r"could not be started.*no answer from the new process.*smix-pz doctor"):
        env.reset()
    assert living_pids(pids) == []
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.step({"marine_0": 1})
    env.reset()  # the fourth launch
    assert len(env.agents) == 3
    env.close()


def test_a_crash_in_a_team_of_two(pids):
    """The team's episode is truncated, and the vector goes on."""
    makers = iter([Faults(step={3}), Faults()])

    def make(**options):
        return FakeSmacEnv(faults=next(makers), **options)

    envs = make_vector_env(make, 1, vectorization="sync", map_name="3m")  # the first is the probe
    envs.close()
    team = TeamEnv(FakeSmacEnv("3m", faults=Faults(step={3})))
    team.reset(seed=0)
    for _ in range(2):
        _, _, terminated, truncated, info = team.step(np.ones(3, np.int64))
        assert not terminated and not truncated
    observation, reward, terminated, truncated, info = team.step(np.ones(3, np.int64))
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert info["battle_won"] is False and team.observation_space.contains(observation)
    team.reset()
    assert not team.step(np.ones(3, np.int64))[3]
    team.close()


def test_async_workers_leave_nothing(pids):
    envs = make_vector_env(FakeSmacEnv, 3, vectorization="async", map_name="3m")
    envs.reset(seed=0)
    assert len(living_pids(pids)) == 3
    envs.close()
    assert living_pids(pids) == []


# ---------------------------------------------------------------- seeds


def course(env, seed):
    """States of a few steps after reset(seed)."""
    env.reset(seed=seed)
    states = [env.state()]
    for _ in range(12):
        env.step(stand(env))
        states.append(env.state())
    return np.array(states)


def test_a_seed_starts_the_game_anew():
    env = FakeSmacEnv("3m")
    first = course(env, 7)
    assert (env.launches, env.smac._seed) == (1, 7)
    env.reset()
    assert env.launches == 1
    other = course(env, 8)
    assert (env.launches, env.smac._seed) == (2, 8)
    again = course(env, 7)
    assert env.launches == 3
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    env.reset(seed=9)
    env.reset(seed=9)  # nothing has been played since
    assert env.launches == 4
    env.reset(seed=2**32 + 5)
    assert env.smac._seed == 5
    env.reset(options={"relaunch": True})
    assert env.launches == 6
    env.close()


def test_one_seed_for_all():
    env = FakeSmacEnv("3m", reseed="once")
    env.reset(seed=7)
    for seed in range(3):
        env.step(stand(env))
        env.reset(seed=seed)
    assert (env.launches, env.smac._seed) == (1, 7)
    env.close()


def test_launches_after_a_crash_have_seeds_of_their_own():
    seeds = []
    for _ in range(2):
        env = FakeSmacEnv("3m", faults=Faults(step={2, 4}), seed=7)
        env.reset()
        run = [env.smac._seed]
        for _ in range(4):
            if not env.agents:
                env.reset()
                run.append(env.smac._seed)
            env.step(stand(env))
        seeds.append(run)
        env.close()
    assert seeds[0] == seeds[1] and seeds[0][0] == 7
    assert len(set(seeds[0])) == len(seeds[0]) == 2


@pytest.mark.parametrize(("seed", "error"), [(-1, ValueError), (1.5, TypeError), ("7", TypeError)])
def test_bad_seeds(seed, error):
    env = FakeSmacEnv("3m")
    with pytest.raises(error, match="seed"):
        env.reset(seed=seed)
    with pytest.raises(error, match="seed"):
        FakeSmacEnv("3m", seed=seed)


# ---------------------------------------------------------------- the rest of the surface


def test_engine_and_rules_name_the_build():
    env = FakeSmacEnv("3m")
    assert env.metadata["rules"] == "StarCraft II build 75689"
    engine = env.engine
    assert engine.pop("version")
    assert engine == {
        "name": "smix_pz/smac-v0",
        "rules": "StarCraft II build 75689",
        "smac": "1.0.0",
        "pysc2": "4.0.0",
    }
    assert env.game_version is None
    env.reset()
    assert env.game_version == "4.10.0"
    assert TeamEnv(env).team_spec.engine == env.engine == {**engine, "version": env.engine["version"]}
    env.close()


def test_stats(pids):
    env = FakeSmacEnv("8m")
    assert env.get_stats()["win_rate"] == 0.0  # SMAC's own divides by zero
    won = sum(next(iter(play_to_end(env, concentrated_fire)[-1][4].values()))["battle_won"] for _ in range(6))
    env.reset(seed=1)
    stats = env.get_stats()
    assert (stats["battles_game"], stats["battles_won"], stats["restarts"]) == (6, won, 1)
    assert stats["win_rate"] == won / 6
    env.save_replay()
    assert Path(f"{pids}.SC2Replay").read_text() == "replay"
    env.close()
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.save_replay()


def test_render(monkeypatch):
    asked = []
    monkeypatch.setattr(starcraft, "import_renderer", lambda: asked.append(True))
    env = FakeSmacEnv("3m", render_mode="rgb_array")
    assert asked
    with pytest.raises(RuntimeError, match=r"reset\(\)"):
        env.render()
    env.reset()
    env.step(stand(env))
    picture = env.render()
    assert picture.shape == (4, 6, 3) and (picture == 1).all()
    env.close()


def test_signature_shows_smacs_options():
    parameters = inspect.signature(smac_v0.parallel_env).parameters
    assert parameters["map_name"].default == "3m" and parameters["reward_win"].default == 200
    assert set(smac_v0.SMAC_OPTIONS) < set(parameters) and "options" not in parameters
    assert len(smac_v0.SMAC_OPTIONS) == 30  # section 3.1 without map_name


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"difficulty": "11"}, ValueError, "difficulty '11' is not known.*did you mean '1'"),
        ({"difficulty": 7}, ValueError, "difficulty 7 is not known.*did you mean '7'"),
        ({"step_mul": 0}, ValueError, "step_mul must be .* at least 1, got 0"),
        ({"step_mul": None}, TypeError, "step_mul"),
        ({"move_amount": -1}, ValueError, "move_amount must be .* above 0, got -1"),
        ({"move_amount": "2"}, TypeError, "move_amount"),
        ({"move_amount": 1.5, "obs_pathing_grid": True}, TypeError, "integer move_amount, got 1.5"),
        ({"reseed": "twice"}, ValueError, "reseed 'twice' is not known"),
        ({"game_versions": "4.10"}, TypeError, "did you mean 'game_version'"),
    ],
)
def test_bad_options(options, error, message):
    with pytest.raises(error, match=message):
        FakeSmacEnv("3m", **options)


def test_all_maps_have_names():
    """As many agents as each map has, in the twin's order, which has a source of its own."""
    for name, row in MAPS.items():
        params = {"n_agents": row.n_allies, "map_type": row.map_type}
        names = smac_v0.agent_names(name, params)
        assert names == list(make_scenario(name).agent_names)
    assert smac_v0.agent_names("4m_vs_3m", {"n_agents": 2, "map_type": "marines"}) == ["marine_0", "marine_1"]
    assert smac_v0.agent_names("MMM3", {"n_agents": 2, "map_type": "MMM"}) == ["unit_0", "unit_1"]


# ---------------------------------------------------------------- what is missing


@pytest.fixture
def site(tmp_path, monkeypatch):
    """A folder before all others on sys.path, without a trace of SMAC, pysc2 or StarCraft II elsewhere."""
    folder = tmp_path / "site"
    folder.mkdir()
    if find_package("smac") or find_package("pysc2"):
        pytest.skip("SMAC is installed here")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("SC2PATH", str(tmp_path / "StarCraftII"))
    monkeypatch.delenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", raising=False)
    yield folder
    for name in [
        name for name in sys.modules if name.split(".")[0] in ("smac", "pysc2", "s2clientprotocol", "websocket")
    ]:
        del sys.modules[name]
    os.environ.pop("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", None)
    importlib.invalidate_caches()


def write(path, text=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    importlib.invalidate_caches()


def install(site, starcraft2=""):
    """Empty packages of the right names, and SMAC's module with the text given."""
    for name in ("smac", "smac/env", "smac/env/starcraft2", "smac/env/starcraft2/maps", "pysc2", "pysc2/lib"):
        write(site / name / "__init__.py")
    for name in ("s2clientprotocol", "absl", "portpicker", "websocket"):
        write(site / name / "__init__.py")
    write(site / "s2clientprotocol" / "common_pb2.py", "DESCRIPTOR = 1")
    write(site / "smac/env/starcraft2/starcraft2.py", starcraft2 or "class StarCraft2Env:\n    pass\n")
    registry = "def get_smac_map_registry():\n    return {'3m': {}, '8m': {}}\n"
    write(site / "smac/env/starcraft2/maps/smac_maps.py", registry)
    launch_error = "class SC2LaunchError(Exception):\n    pass\n"
    write(site / "pysc2/lib/sc_process.py", launch_error)
    write(
        site / "pysc2/run_configs/__init__.py",
        """
        from types import SimpleNamespace
        def get(version=None):
            if version not in (None, "4.10"):
                raise ValueError(f"Unknown game version: {version}. Known versions: ['4.10.0', 'latest'].")
            return SimpleNamespace(version=SimpleNamespace(build_version=75689))
        """,
    )
    write(
        site / "pysc2/maps/__init__.py",
        """
        class DuplicateMapError(Exception):
            pass
        def get(name):
            if name == "8m":
                raise DuplicateMapError("Duplicate map found: 8m")
        """,
    )
    write(
        site / "pysc2/lib/protocol.py", "class ConnectionError(Exception): pass\nclass ProtocolError(Exception): pass\n"
    )
    errors = "class ConnectError(Exception): pass\nclass RequestError(Exception): pass\n"
    write(site / "pysc2/lib/remote_controller.py", errors)
    write(site / "websocket/__init__.py", "class WebSocketException(Exception): pass\n")


def install_game(folder, maps=("3m",)):
    binary = folder / "Versions" / "Base75689" / "SC2_x64"
    write(binary)
    binary.chmod(0o755)
    for name in maps:
        write(folder / "Maps" / "SMAC_Maps" / f"{name}.SC2Map")


def refusal(*arguments):
    with pytest.raises(starcraft.StarCraftUnavailable) as caught:
        starcraft.find_smac(*arguments)
    return str(caught.value)


def test_missing_pieces_are_named_one_after_the_other(site, tmp_path):
    """From nothing to something that could be launched; each step follows the last message's remedy."""
    game = tmp_path / "StarCraftII"
    assert "pip install --no-deps git+https://github.com/oxwhirl/smac" in refusal("3m")
    with pytest.raises(starcraft.StarCraftUnavailable, match="smac_v0 cannot run: smac: not installed"):
        smac_v0.parallel_env("3m")
    write(site / "smac" / "__init__.py")
    write(site / "smac" / "facade" / "__init__.py")
    message = refusal("3m")
    assert "AutoML" in message and "pip uninstall smac" in message
    write(site / "smac/env/starcraft2/starcraft2.py")
    assert "pysc2==4.0.0" in refusal("3m")
    install(site)
    message = refusal("3m")
    assert f"SC2PATH is {game}" in message and "Versions and Maps" in message
    game.mkdir()
    assert "StarCraft builds: none in" in refusal("3m")
    write(game / "Versions" / "Base75689" / "SC2_x64")
    assert "chmod +x" in refusal("3m")
    install_game(game, maps=())
    message = refusal("3m")
    assert "3m.SC2Map" in message and "smac/env/starcraft2/maps/SMAC_Maps" in message
    install_game(game, maps=("3m", "8m"))
    found = starcraft.find_smac("3m")
    assert found.rules == "StarCraft II build 75689"
    assert "smacv2" in refusal("8m") and "Duplicate map" in refusal("8m")
    with pytest.raises(ValueError, match="knows no map '3mm'; did you mean '3m'"):
        starcraft.find_smac("3mm")
    with pytest.raises(ValueError, match=r"game_version '4.11' is not installed.*4\.10\.0"):
        starcraft.find_smac("3m", "4.11")


def test_old_builds_are_refused(site, tmp_path):
    install(site)
    write(tmp_path / "StarCraftII" / "Versions" / "Base52910" / "SC2_x64")
    assert "install build 55958" in refusal("3m")


def test_protobuf_trap(site, tmp_path, monkeypatch):
    text = 'raise TypeError("Descriptors cannot be created directly.")'
    install(site, text)
    install_game(tmp_path / "StarCraftII")
    # not imported yet: it is set before anything of SMAC's is
    monkeypatch.setattr(starcraft, "loaded_protobuf", lambda: None)
    monkeypatch.setattr("smix_pz.doctor.loaded_protobuf", lambda: None)
    monkeypatch.setattr("smix_pz.doctor.version_of", lambda name: "7.36.2")
    assert "cannot read Blizzard's messages" in refusal("3m")
    assert os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] == "python"
    # imported already, in the wrong form: said before SMAC is imported
    monkeypatch.delenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION")
    monkeypatch.setattr("smix_pz.doctor.loaded_protobuf", lambda: "upb")
    message = refusal("3m")
    assert "already imported here in its upb implementation" in message and "before Python starts" in message
    # chosen by the user
    monkeypatch.setattr("smix_pz.doctor.loaded_protobuf", lambda: None)
    monkeypatch.setenv("PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION", "upb")
    assert "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION=upb" in refusal("3m")
    # messages that were generated by a newer protoc need nothing
    write(site / "s2clientprotocol" / "common_pb2.py", "from google.protobuf.internal import builder as _builder")
    write(site / "smac/env/starcraft2/starcraft2.py", "class StarCraft2Env: pass")
    assert starcraft.find_smac("3m").rules


def test_flags_and_missing_modules(site, tmp_path):
    install_game(tmp_path / "StarCraftII")
    install(site, "import not_there_at_all")
    assert "'not_there_at_all', which is not installed" in refusal("3m")
    flags = """
        class IllegalFlagValueError(Exception):
            pass
        IllegalFlagValueError.__module__ = "absl.flags._exceptions"
        raise IllegalFlagValueError("flag --run must have a value other than None.")
    """
    write(site / "smac/env/starcraft2/starcraft2.py", flags)
    message = refusal("3m")
    assert "--run must have a value" in message and "required" in message
    write(site / "smac/env/starcraft2/starcraft2.py", "raise TypeError('something else')")
    with pytest.raises(TypeError, match="something else"):
        starcraft.find_smac("3m")


# ---------------------------------------------------------------- SMAC's own code, the connection replaced


class ConnectedEnv(smac_v0.parallel_env):
    """smac_v0 on SMAC's own StarCraft2Env, whose pysc2 starts `FakeRunConfig`s."""

    def __init__(self, map_name="3m", *, faults=None, **options):
        self.faults = faults or Faults()
        super().__init__(map_name, **options)

    def _find_smac(self, map_name, game_version):
        made = starcraft.import_smac()
        module = sys.modules[made.__module__]
        registry = module.get_map_params.__globals__["smac_maps"].get_smac_map_registry()

        def make(map_name, **options):
            smac = starcraft.watched(made)(map_name=map_name, **options)
            module.run_configs.get = lambda version: FakeRunConfig(map_name, self.faults)
            return smac

        crashes = (*starcraft._crashes(), FakeConnectionError)
        return starcraft.Smac(make, registry[map_name], crashes, "StarCraft II build 75689")


needs_smac = pytest.mark.skipif(
    find_package("smac") is None or find_package("pysc2") is None, reason="SMAC and pysc2 are not installed"
)


@needs_smac
@contract
def test_contract_on_smacs_own_code(check, arguments):
    check(ConnectedEnv, *arguments)


@needs_smac
@pytest.mark.parametrize("call", [{"step": {4}}, {"observe": {3}}, {"kill": {1}}, {"launch": {1}}, {"spawn": {1}}])
def test_crashes_in_smacs_own_code(pids, call):
    env = ConnectedEnv("3m", faults=Faults(**call))
    env.reset()
    aborted = 0
    for _ in range(2):
        while env.agents:
            *_, infos = env.step(stand(env))
            aborted += any(info.get("aborted", False) for info in infos.values())
        env.reset()
        np.testing.assert_allclose(env.state()[[0, 4, 8, 12, 15, 18]], 1.0)
    assert env.launches == 2 and len(living_pids(pids)) == 1
    assert aborted == (not {"kill", "launch", "spawn"} & set(call))
    assert env.smac.max_reward == 365
    env.close()


@needs_smac
@pytest.mark.parametrize(
    ("map_name", "options"),
    [
        *((name, {}) for name in MAPS),
        ("3m", {"obs_last_action": True, "obs_pathing_grid": True, "obs_timestep_number": True}),
        ("2s3z", {"obs_instead_of_state": True, "obs_timestep_number": True}),
        ("2s3z", {"state_last_action": False}),
        ("MMM", {"obs_all_health": False, "obs_own_health": False, "state_timestep_number": True}),
        ("3s5z", {"reward_only_positive": False}),
        ("8m", {"reward_sparse": True}),
        ("8m", {"reward_scale": False, "reward_win": 50, "reward_death_value": 1}),
    ],
)
def test_smacs_own_code_and_the_twins_layout_agree(map_name, options):
    """Observations, masks, state, rewards and ends of the same battle, read by SMAC and by `battle.layout`."""
    env = ConnectedEnv(map_name, **options)
    rng = np.random.default_rng(5)
    layout = Layout(make_scenario(map_name), LayoutOptions(**options))
    for _ in range(2):
        _, infos = env.reset()
        world = env.smac._controller.world.battles
        world.layout = layout
        for name, shape in (("obs", (1, len(env.possible_agents), layout.obs_dim)), ("state", (1, layout.state_dim))):
            setattr(world, name, np.zeros(shape, np.float32))
        world.last_action[:] = -1
        while True:
            world.look()
            np.testing.assert_allclose(env._obs, world.obs[0], atol=2e-6)
            np.testing.assert_allclose(env._state, world.state[0], atol=2e-6)
            np.testing.assert_array_equal(env._masks, world.mask[0])
            if not env.agents:
                break
            if rng.random() < 0.5:
                actions = concentrated_fire(env, infos)
            else:
                masks = {agent: np.flatnonzero(infos[agent]["action_mask"]) for agent in env.agents}
                actions = {agent: int(rng.choice(mask)) for agent, mask in masks.items()}
            _, rewards, terminations, truncations, infos = env.step(actions)
            world.last_action[0] = [actions.get(agent, 0) for agent in env.possible_agents]
            reward = float(world.finish()[0])
            assert next(iter(rewards.values())) == pytest.approx(reward, abs=2e-5)
            assert all(terminations.values()) == bool(world.terminated[0])
            assert any(truncations.values()) == bool(world.truncated[0])
            assert next(iter(infos.values()))["battle_won"] == bool(world.battles["result"][0] == 1)
    env.close()


@needs_smac
def test_smacs_own_pictures():
    pytest.importorskip("skvideo")
    env = ConnectedEnv("MMM", render_mode="rgb_array")
    for seed in (1, 2):  # of two launches
        env.reset(seed=seed)
        env.step(stand(env))
        picture = env.render()
        assert picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
        assert picture.std() > 1.0  # something is to be seen
    env.close()


# ---------------------------------------------------------------- StarCraft II itself


@pytest.mark.starcraft
@pytest.mark.skipif(not os.environ.get("SC2PATH"), reason="SC2PATH is not set: no StarCraft II")
@contract
def test_contract_on_starcraft(check, arguments, monkeypatch):
    monkeypatch.undo()
    check(smac_v0.parallel_env, *arguments)
