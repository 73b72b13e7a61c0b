"""Scenes about how the user's audio may come: in bursts, and with gaps."""

from typing import Final

from pipecat_hydra.cli.check import sounds
from pipecat_hydra.cli.check.scenes.scene import Scene, Stage

__all__ = ["AUDIO_SCENES"]

_STALL_SECS: Final = 1.5
_PREROLL_SECS: Final = 8.0
_DUMP_SECS: Final = 10.0
# Whether a close follows an error is seen within this time.
_CLOSE_SECS: Final = 2.5
_AT_ONCE: Final = float("inf")


async def _be_fast(stage: Stage) -> None:
    steps = (("stall", _STALL_SECS, _AT_ONCE), ("pre-roll", _PREROLL_SECS, 2.0))
    async with stage.open() as wire:
        if await wire.configure(**stage.session()) is None:
            return
        for name, secs, speed in (*steps, ("dump", _DUMP_SECS, _AT_ONCE)):
            wire.mark(name)
            await wire.speak(sounds.silence(secs), speed=speed)
            await wire.wait(1.0)
            if wire.log.errors or not wire.is_open:
                break
        await wire.wait(_CLOSE_SECS)


async def _leave_a_gap(stage: Stage) -> None:
    async with stage.open() as wire:
        if await wire.configure(**stage.session()) is None:
            return
        await wire.speak(sounds.hello())
        wire.mark("gap")
        await wire.wait(3.0)
        wire.mark("silence")
        await wire.speak(sounds.silence(1.2))
        await wire.got("response.created", within=5.0)


AUDIO_SCENES: Final = (
    Scene(
        "bursts",
        f"Sends {_STALL_SECS:g} s of silence at once, {_PREROLL_SECS:g} s at twice real time, and "
        f"{_DUMP_SECS:g} s at once.",
        11,
        60,
        _be_fast,
    ),
    Scene(
        "gap",
        "Speaks, sends nothing for three seconds, and then silence.",
        7,
        40,
        _leave_a_gap,
    ),
)
"""These scenes, in the order in which they are held."""
