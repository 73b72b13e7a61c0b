"""Settings, models and voices."""

from dataclasses import fields

import pytest
from pipecat.utils.types import is_given

from pipecat_hydra.service.settings import (
    HydraLLMSettings,
    complete_settings,
    default_voice,
    voice_warning,
)
from pipecat_hydra.wire.protocol import MODELS, VOICES


def test_every_field_is_initialised():
    settings = complete_settings(None)
    names = [field.name for field in fields(settings) if field.name != "extra"]
    assert all(is_given(getattr(settings, name)) for name in names)
    assert settings.model == "hydra-v1.1"


def test_what_is_given_counts_and_the_rest_has_defaults():
    settings = complete_settings(HydraLLMSettings(voice="zoe", generate_initial_response=True))
    assert (settings.voice, settings.generate_initial_response) == ("zoe", True)
    assert settings.system_instruction is None
    assert complete_settings(HydraLLMSettings(model="hydra-v1.0")).model == "hydra-v1.0"


def test_settings_that_say_nothing_change_nothing():
    settings = complete_settings(HydraLLMSettings(voice="zoe"))
    assert settings.apply_update(HydraLLMSettings()) == {}
    assert settings.voice == "zoe"


@pytest.mark.parametrize("name", list(MODELS))
def test_the_default_voice_is_in_the_roster(name: str):
    assert default_voice(name) in MODELS[name].voices
    assert voice_warning(name, default_voice(name)) is None


def test_a_voice_is_always_asked_for():
    assert default_voice("hydra-v9") == "sterling"


@pytest.mark.parametrize("model", [*MODELS, "hydra-v9"])
def test_a_voice_in_no_known_list_is_warned_about(model: str):
    warning = voice_warning(model, "wren")
    assert warning is not None
    assert "'wren'" in warning
    assert "zoe" in warning
    assert "sawyer" in warning


@pytest.mark.parametrize("model", [*MODELS, "hydra-v9"])
def test_each_model_takes_each_voice_of_the_one_list(model: str):
    assert len(set(VOICES)) == 24
    assert not [voice for voice in VOICES if voice_warning(model, voice)]
    for rejected in ("wren", "sloane", "marlowe", "reed", "knox", "tate"):
        assert rejected not in VOICES


def test_the_models_are_named_as_they_are_filed():
    assert all(name == model.name for name, model in MODELS.items())
    assert [m.name for m in MODELS.values() if m.deprecated] == ["hydra"]
