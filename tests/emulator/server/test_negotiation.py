"""Protocol §2: what a session is configured with, given what the client asks for."""

from typing import Any

import pytest

from pipecat_hydra.emulator import EmulatorSettings
from pipecat_hydra.emulator.server.negotiation import accepts_voice, in_force, output_sample_rate
from pipecat_hydra.emulator.wire.client_events import SessionConfiguration
from pipecat_hydra.wire.protocol import MODELS, V1_0_VOICES, V1_1_VOICES, VOICES

RETIRED = ["wren", "sloane", "marlowe", "reed", "knox", "tate"]


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_each_model_has_every_known_voice(model: Any) -> None:
    settings = EmulatorSettings()
    assert all(accepts_voice(voice, model, settings) for voice in (*VOICES, "marin", None))
    assert not any(accepts_voice(voice, model, settings) for voice in RETIRED)


@pytest.mark.parametrize(
    ("model", "roster"), [("hydra-v1.1", V1_1_VOICES), ("hydra-v1.0", V1_0_VOICES)]
)
def test_each_model_has_a_roster_of_its_own(model: str, roster: tuple[str, ...]) -> None:
    settings = EmulatorSettings(voices="by_model")
    voices = (*VOICES, "marin", *RETIRED)
    accepted = [voice for voice in voices if accepts_voice(voice, MODELS[model], settings)]
    assert accepted == list(roster)
    assert accepts_voice(None, MODELS[model], settings)


def test_any_voice() -> None:
    settings = EmulatorSettings(voices="any")
    assert all(accepts_voice(voice, MODELS["hydra"], settings) for voice in RETIRED)


@pytest.mark.parametrize(
    ("asked", "settings", "rate"),
    [
        (None, {}, 24_000),
        (16_000, {}, 24_000),
        (16_000, {"honour_output_rate": True}, 16_000),
        (None, {"honour_output_rate": True}, 24_000),
        (None, {"output_sample_rate": 8_000}, 8_000),
        (16_000, {"output_sample_rate": 8_000, "honour_output_rate": True}, 16_000),
    ],
)
def test_the_output_rate(asked: int | None, settings: dict[str, Any], rate: int) -> None:
    wanted = SessionConfiguration(output_audio_sample_rate=asked)
    assert output_sample_rate(wanted, MODELS["hydra-v1.1"], EmulatorSettings(**settings)) == rate


def test_what_is_in_force() -> None:
    wanted = SessionConfiguration(instructions="Be brief.", output_audio_sample_rate=16_000)
    session = in_force(wanted, None, 24_000)
    assert session["instructions"] == "Be brief."
    assert session["voice"] == "sterling"
    assert session["output_audio_sample_rate"] == 24_000
    assert "output_audio_sample_rate" not in in_force(wanted, "aria", None)
