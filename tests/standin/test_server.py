"""The server as a process: it answers one client on the loopback interface, and nothing of it is left behind.

The clients here are plain sockets and websocket-client, as a stranger's would be.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from smix_pz.standin import server as server_module
from smix_pz.standin.messages import load_messages
from smix_pz.standin.server import check_loopback, listen, serve

websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")

M = load_messages()
PATIENCE = 60.0
PING = M.Request(id=1, ping=M.RequestPing()).SerializeToString()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until(condition, what):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited for {what}"
        time.sleep(0.02)


def is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def server(tmp_path):
    """A server as pysc2 starts it, and its port; `start(*more)` starts it."""
    started = []

    class Server:
        temporary = tmp_path / "sc-temporary"
        port = free_port()

        @classmethod
        def start(cls, *more, wait=True):
            cls.temporary.mkdir(exist_ok=True)
            words = ["-listen", "127.0.0.1", "-port", str(cls.port), "-dataDir", "/nowhere/"]
            words += ["-tempDir", f"{cls.temporary}/", "-dataVersion", "B89B5D6F", "-headlessNoRender", *more]
            cls.process = subprocess.Popen(
                [sys.executable, "-m", "smix_pz.standin", *words], stderr=subprocess.PIPE, text=True
            )
            started.append(cls.process)
            if wait:
                until(lambda: not is_free(cls.port) or cls.process.poll() is not None, "the port to open")
                assert cls.process.poll() is None, cls.process.stderr.read()
            return cls.process

        @classmethod
        def connect(cls, path="/sc2api"):
            return websocket.create_connection(f"ws://127.0.0.1:{cls.port}{path}", timeout=PATIENCE)

        @classmethod
        def is_gone(cls, code=0):
            assert cls.process.wait(PATIENCE) == code
            assert is_free(cls.port) and not cls.temporary.exists()
            return True

    yield Server
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()
        process.stderr.close()


def ask(connection, request=PING, opcode=None):
    connection.send(request, opcode or websocket.ABNF.OPCODE_TEXT)
    return M.Response.FromString(connection.recv())


def test_a_client_and_its_end(server):
    """Text frames that are no text, as pysc2 sends them, and binary ones; the server ends with its client."""
    server.start()
    connection = server.connect()
    request = M.Request(id=200, ping=M.RequestPing()).SerializeToString()
    with pytest.raises(UnicodeDecodeError):
        request.decode()
    for opcode in (websocket.ABNF.OPCODE_TEXT, websocket.ABNF.OPCODE_BINARY):
        assert ask(connection, request, opcode).id == 200
    connection.close()
    assert server.is_gone()
    (line,) = server.process.stderr.read().splitlines()
    assert line.startswith("smix standin r") and "not StarCraft II" in line and str(server.port) in line


def test_quit_ends_it_whether_or_not_the_answer_is_read(server):
    server.start()
    connection = server.connect()
    connection.send(M.Request(quit=M.RequestQuit()).SerializeToString())
    connection.shutdown()  # at once, as pysc2 does
    assert server.is_gone() and "Traceback" not in server.process.stderr.read()


def test_a_client_that_vanishes_without_goodbye(server):
    server.start()
    connection = server.connect()
    ask(connection)
    connection.sock.close()
    assert server.is_gone()


def test_a_message_in_pieces_and_pings(server):
    server.start()
    connection = server.connect()
    head, tail = websocket.ABNF.create_frame, websocket.ABNF
    for piece, opcode, fin in ((PING[:1], tail.OPCODE_BINARY, 0), (PING[1:3], tail.OPCODE_CONT, 0)):
        connection.send_frame(head(piece, opcode, fin))
    connection.ping(b"between")
    connection.send_frame(head(PING[3:], tail.OPCODE_CONT, 1))
    assert M.Response.FromString(connection.recv()).id == 1  # the pong is taken by websocket-client itself
    connection.close()
    assert server.is_gone()


def test_garbage_is_answered_and_the_server_lives_on(server):
    server.start()
    connection = server.connect()
    for garbage in (b"\xff\xfe", b"hello", bytes(1000)):
        assert "no SC2APIProtocol.Request" in ask(connection, garbage).error[0]
    assert ask(connection).ping.game_version.startswith("smix standin")
    connection.close()
    assert server.is_gone()


def test_other_paths_are_not_found(server):
    server.start()
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        server.connect("/")
    assert refused.value.status_code == 404
    assert server.is_gone()


def test_no_websocket_at_all(server):
    server.start()
    with socket.create_connection(("127.0.0.1", server.port)) as stranger:
        stranger.sendall(b"HELO there\r\n\r\n" * 3)
        stranger.settimeout(PATIENCE)
        with contextlib.suppress(OSError):
            while stranger.recv(1000):
                pass
    assert server.is_gone()


def test_a_second_client_is_turned_away(server):
    server.start()
    connection = server.connect()
    ask(connection)
    with pytest.raises((websocket.WebSocketException, ConnectionError)):
        server.connect()
    assert ask(connection).HasField("ping")
    connection.close()
    assert server.is_gone()


def test_a_port_that_is_taken_is_said(server):
    with socket.socket() as other:
        other.bind(("127.0.0.1", server.port))
        other.listen()
        process = server.start(wait=False)
        assert process.wait(PATIENCE) == 2
    assert f"cannot listen on 127.0.0.1 port {server.port}" in process.stderr.read()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("connected", [False, True])
def test_signals_leave_nothing(server, number, connected):
    process = server.start()
    connection = server.connect() if connected else None
    if connection:
        ask(connection)
    until(lambda: not server.temporary.exists(), "the temporary folder to go")
    process.send_signal(number)
    assert server.is_gone(-number)
    if connection:
        with pytest.raises((websocket.WebSocketException, OSError)):
            ask(connection)


def test_ctrl_c_of_the_client_is_not_the_servers(server):
    process = server.start("--parent", str(os.getpid()))
    connection = server.connect()
    ask(connection)
    process.send_signal(signal.SIGINT)
    assert ask(connection).HasField("ping")
    connection.close()
    assert server.is_gone()


PARENT = """
import os, subprocess, sys, time
words = ["-m", "smix_pz.standin", *sys.argv[1:], "--parent", str(os.getpid())]
print(subprocess.Popen([sys.executable, *words]).pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("connected", [False, True])
def test_the_server_ends_with_the_process_that_started_it(server, connected):
    """Killed before it has connected, or while another process (a forked child) still holds the connection."""
    server.temporary.mkdir()
    words = ["-listen", "127.0.0.1", "-port", str(server.port), "-tempDir", f"{server.temporary}/"]
    parent = subprocess.Popen([sys.executable, "-c", PARENT, *words], stdout=subprocess.PIPE, text=True)
    try:
        pid = int(parent.stdout.readline())
        until(lambda: not is_free(server.port), "the port to open")
        connection = server.connect() if connected else None
        if connection:
            ask(connection)
        parent.kill()
        parent.wait()
        until(lambda: not lives(pid), "the server to end")
        assert is_free(server.port) and not server.temporary.exists()
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_a_launchers_server_that_nobody_calls_ends(monkeypatch):
    """The parent may have ended before the launcher could see who it was. By hand it waits for ever."""
    monkeypatch.setattr(server_module, "UNCALLED", 0.1)
    monkeypatch.setattr(server_module, "WATCH_EVERY", 0.05)
    with contextlib.closing(listen("127.0.0.1", 0)) as listener:
        serve(listener, None, parent=os.getppid())
        waiting = threading.Thread(target=serve, args=(listener, None), daemon=True)
        waiting.start()
        waiting.join(0.5)
        assert waiting.is_alive()
        socket.create_connection(listener.getsockname()).close()
        waiting.join(PATIENCE)
        assert not waiting.is_alive()


def test_a_temporary_folder_with_something_in_it_stays(server):
    server.temporary.mkdir()
    (server.temporary / "precious").write_text("x")
    server.start()
    connection = server.connect()
    ask(connection)
    connection.close()
    assert server.process.wait(PATIENCE) == 0
    assert (server.temporary / "precious").read_text() == "x"


def test_times_are_written(server, tmp_path):
    server.start("--times", str(tmp_path / "times.json"))
    connection = server.connect()
    for _ in range(5):
        ask(connection)
    connection.close()
    assert server.is_gone()
    times = json.loads((tmp_path / "times.json").read_text())
    assert times["requests"] == times["requests ping"] == 5
    assert all(times[name] > 0 for name in ("answering ping", "websocket", "waiting"))


def test_many_side_by_side(tmp_path):
    """Servers share nothing: each has its own game, at its own loop."""
    ports = [free_port() for _ in range(4)]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "smix_pz.standin", "-port", str(port)], stderr=subprocess.DEVNULL, cwd=tmp_path
        )
        for port in ports
    ]
    try:
        for port in ports:
            until(lambda port=port: not is_free(port), "the port to open")
        connections = [websocket.create_connection(f"ws://127.0.0.1:{p}/sc2api", timeout=PATIENCE) for p in ports]
        create = M.RequestCreateGame(local_map=M.LocalMap(map_path="3m"), random_seed=1)
        create.player_setup.add(type=1)
        create.player_setup.add(type=2)
        for loops, connection in enumerate(connections, 1):
            ask(connection, M.Request(create_game=create).SerializeToString())
            join = M.RequestJoinGame(race=1, options=M.InterfaceOptions(raw=True))
            ask(connection, M.Request(join_game=join).SerializeToString())
            ask(connection, M.Request(step=M.RequestStep(count=loops)).SerializeToString())
        for loops, connection in enumerate(connections, 1):
            response = ask(connection, M.Request(observation=M.RequestObservation()).SerializeToString())
            assert response.observation.observation.game_loop == loops
            connection.close()
        assert [process.wait(PATIENCE) for process in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_loopback_only():
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert check_loopback(host)
    for host in ("0.0.0.0", "", "10.0.0.1", "::", "example.org"):
        with pytest.raises(ValueError, match="loopback"):
            listen(host, 0)
    with pytest.raises(ValueError, match=r"nearest is 65535"):
        listen("127.0.0.1", 70000)


def command_line(*words, **options):
    code = "from smix_pz.cli import main; main()"
    return subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE, text=True, **options)


def test_serve_by_hand():
    """A free port is chosen and printed; the server ends with its client."""
    process = command_line("standin", "serve", "--port", "0")
    try:
        address = process.stderr.readline().split()[-1]
        connection = websocket.create_connection(address, timeout=PATIENCE)
        ask(connection)
        connection.close()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_serve_for_ever():
    process = command_line("standin", "serve", "--port", "0", "--forever")
    try:
        for _ in range(2):
            address = process.stderr.readline().split()[-1]
            connection = websocket.create_connection(address, timeout=PATIENCE)
            ask(connection)
            connection.close()
        assert process.stderr.readline().startswith("smix standin")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
    finally:
        process.kill()
        process.wait()
        process.stderr.close()
