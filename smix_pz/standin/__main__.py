"""What the launcher starts in StarCraft's place: understands the game's own command line, as far as pysc2 uses it.

    python -m smix_pz.standin -listen 127.0.0.1 -port 5000 -dataDir FOLDER -tempDir FOLDER

and adds `--parent PID` (end with that process), `--preset`, `--jitter` (of the battles) and `--times FILE` (where the
time went, as JSON, written at the end). Options of the game that concern pictures and logs are ignored.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from smix_pz.files import write_text
from smix_pz.standin.server import listen, say, serve


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve one client; the exit status is 0 when it is gone, 2 for a bad command line or a port that is taken."""
    # No help: "-h" would be found in "-headlessNoRender".
    parser = argparse.ArgumentParser(prog="SC2_x64 (smix standin)", allow_abbrev=False, add_help=False)
    parser.add_argument("-listen", default="127.0.0.1")
    parser.add_argument("-port", type=int, required=True)
    parser.add_argument("-tempDir")
    parser.add_argument("--parent", type=int)
    parser.add_argument("--preset", default="liberty")
    parser.add_argument("--jitter", type=float, default=0.1)
    parser.add_argument("--times")
    given, _ = parser.parse_known_args(arguments)
    try:
        listener = listen(given.listen, given.port)
    except (ValueError, OSError) as error:
        say(f"smix standin: {error}")
        return 2
    if given.parent is not None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the client's affair, who will end this process
    if given.tempDir:
        # Nothing is ever written there. Whoever made it need not find it at the end, and may be killed before.
        with suppress(OSError):
            os.rmdir(given.tempDir)
    # The client finds an open port while the engine is being loaded, and so does not wait for its next try.
    from smix_pz.standin.game import Game

    game = Game(given.preset, given.jitter)
    say(f"{game.title}: this is not StarCraft II but smix_pz's embedded engine, on {given.listen} port {given.port}.")
    times: dict[str, float] = defaultdict(float)
    if given.times:
        signal.signal(signal.SIGTERM, _leave)  # pysc2 sends it right after "quit"; the times are still to be written
    try:
        serve(listener, game, parent=given.parent, times=times)
    finally:
        if given.times:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            write_text(Path(given.times), json.dumps(times))
    return 0


def _leave(*_: object) -> None:
    raise SystemExit(0)


if __name__ == "__main__":
    raise SystemExit(main())
