"""What a page may choose of the service for its call: model, voice and instructions."""

import json
from typing import Any

import aiohttp
import pytest
from support.web import options

from pipecat_hydra.cli.web.server import WebServer
from pipecat_hydra.cli.web.service import ChoiceError, Service, offered_models
from pipecat_hydra.wire.protocol import MODELS, VOICES


def service(**more: Any) -> Service:
    facts = {"model": "hydra-v1.1", "voice": None, "instructions": "Be brief.", **more}
    return Service(api_key="sk", base_url="ws://localhost", **facts)


def test_what_is_not_chosen_is_as_it_was():
    own = service(voice="zoe")
    assert own.chosen(None) == own.chosen({}) == own.chosen({"api_key": "sk", "base_url": 7}) == own


def test_model_voice_and_instructions():
    chosen = service(voice="zoe").chosen(
        {"model": "hydra-v1.0", "voice": "maya", "instructions": "Speak slowly."}
    )
    assert chosen == service(model="hydra-v1.0", voice="maya", instructions="Speak slowly.")
    assert chosen.output_sample_rate == 48_000


def test_the_default_voice():
    own = service(voice="zoe")
    assert own.chosen({"voice": ""}).voice is None
    # That of the server's own model need not be one of another.
    assert own.chosen({"model": "hydra"}).voice is None
    assert own.chosen({"model": "hydra-v1.1"}).voice == "zoe"


def test_the_models_are_the_known_ones_and_that_of_the_server():
    assert [model.name for model in offered_models(service())] == list(MODELS)
    *known, own = offered_models(service(model="hydra-v2", voice="nova"))
    assert [model.name for model in known] == list(MODELS)
    assert (own.name, own.voices, own.default_voice) == ("hydra-v2", ("nova",), None)
    assert service(model="hydra-v2").chosen({"model": "hydra-v2"}).model == "hydra-v2"


def test_a_voice_that_no_list_has_is_offered_if_the_server_was_started_with_it():
    first, *_ = offered_models(service(voice="nova"))
    assert first.voices == ("nova", *VOICES)
    assert service(voice="nova").chosen({"voice": "nova"}).voice == "nova"


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"model": "gpt-9"}, "There is no model 'gpt-9'."),
        ({"voice": "nobody"}, "The model hydra-v1.1 has no voice 'nobody'."),
        ({"model": "hydra", "voice": "nobody"}, "The model hydra has no voice 'nobody'."),
        ({"instructions": "x" * 8_001}, "at most 8000 characters"),
        ({"voice": 7}, "cannot be read"),
        ("hydra", "cannot be read"),
        ([], "cannot be read"),
    ],
)
async def test_a_choice_that_is_not_valid(choice: Any, message: str):
    with pytest.raises(ChoiceError, match=message):
        service().chosen(choice)
    async with (
        WebServer(options()) as web,
        aiohttp.ClientSession() as session,
        session.post(
            web.url + "/api/offer",
            json={"sdp": "m=audio", "type": "offer", "request_data": choice},
        ) as response,
    ):
        assert response.status == 400
        assert message in json.loads(await response.text())["detail"]
        assert len(web.calls) == 0
