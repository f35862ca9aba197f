"""The embedded SMAC engine behind StarCraft II's own protocol, so that programs written for SMAC run without the game.

`folder` writes what pysc2 takes for an installation of StarCraft II; the launcher in it starts `__main__`, which is
`server` (a websocket on the loopback interface) around `game` (requests in, responses out) with `messages` (Blizzard's
protocol buffers). `identity` is what it calls itself wherever a result could be mistaken for StarCraft II's. The
guide is docs/standin.md.
"""
