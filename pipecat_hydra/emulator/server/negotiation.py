"""Decides what a session is configured with, given what the client asks for (§2)."""

from pipecat_hydra.emulator.settings import EmulatorSettings
from pipecat_hydra.emulator.wire.client_events import SessionConfiguration
from pipecat_hydra.emulator.wire.events import Event
from pipecat_hydra.wire.protocol import (
    INPUT_SAMPLE_RATE,
    SERVER_DEFAULT_VOICE,
    UNLISTED_VOICES,
    V1_0_VOICES,
    V1_1_VOICES,
    Model,
)

_DOCUMENTED_VOICES = {"hydra-v1.1": V1_1_VOICES, "hydra-v1.0": V1_0_VOICES}
"""The roster of each model. That of `hydra` was withdrawn, so that it has the common one."""


def accepts_voice(voice: str | None, model: Model, settings: EmulatorSettings) -> bool:
    """Return whether a model speaks with a voice; `None` is the server's default, `sterling`."""
    if voice is None or settings.voices == "any":
        return True
    if settings.voices == "by_model":
        return voice in _DOCUMENTED_VOICES.get(model.name, model.voices)
    return voice in model.voices or voice in UNLISTED_VOICES


def output_sample_rate(
    wanted: SessionConfiguration, model: Model, settings: EmulatorSettings
) -> int:
    """Return the rate of reply audio in Hz."""
    asked = wanted.output_audio_sample_rate if settings.honour_output_rate else None
    return asked or settings.output_sample_rate or model.output_sample_rate


def in_force(wanted: SessionConfiguration, voice: str | None, output_rate: int | None) -> Event:
    """Return `session` of `session.configured`.

    Args:
        wanted: What the client asked for.
        voice: The voice; `None` for the server's default.
        output_rate: The rate of reply audio in Hz; `None` not to tell it.
    """
    session: Event = {
        "instructions": wanted.instructions,
        "voice": voice or SERVER_DEFAULT_VOICE,
        "tools": wanted.tools,
        "generate_initial_response": wanted.generate_initial_response,
        "input_audio_format": "pcm16",
        "input_audio_sample_rate": INPUT_SAMPLE_RATE,
        "output_audio_format": "pcm16",
    }
    if output_rate is not None:
        session["output_audio_sample_rate"] = output_rate
    return session
