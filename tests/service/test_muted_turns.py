"""A mute that swallows the end of a user turn leaves none open (T1, T2)."""

import asyncio

from pipecat.frames.frames import Frame
from pipecat.turns.user_mute.base_user_mute_strategy import BaseUserMuteStrategy
from support.bots import Bot, running, script, until
from support.call import emulator, recording
from typing_extensions import override

from pipecat_hydra.emulator import Say


class Switch(BaseUserMuteStrategy):
    """Mutes when it is told to."""

    muted = False

    @override
    async def process_frame(self, frame: Frame) -> bool:
        return self.muted


async def test_the_user_can_interrupt_after_a_mute_in_which_a_turn_has_ended():
    switch = Switch()
    async with emulator(script(Say.tones(5.0), Say.tones(0.4))) as hydra:
        bot = Bot(hydra, user={"user_mute_strategies": [switch]})
        async with running(bot):
            bot.line.microphone.queue(recording("hello"))
            await until(lambda: hydra.sessions)
            await bot.told.wait_for_sent("input_audio_buffer.speech_started", within=10)
            await asyncio.sleep(0.1)
            switch.muted = True
            await bot.told.wait_for_sent("input_audio_buffer.speech_stopped", within=10)
            await until(lambda: bot.line.heard_pcm)
            switch.muted = False
            await asyncio.sleep(0.3)
            await bot.say("hello")
            await bot.until_answered(2)
            # It was heard to the interruption, and not to its end.
            assert len(bot.line.heard_pcm) < len(bot.told.sent_audio())
            assert bot.told.errors == []
