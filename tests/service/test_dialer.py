"""Each connection has the key and the model that are in force when it is made."""

from pydantic import SecretStr

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.settings import complete_settings
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.keys import Keyring


async def test_the_model_may_change_while_the_key_is_fetched():
    settings = complete_settings(HydraLLMSettings(model="hydra-v1.1"))
    keys = ["first", "second"]

    async def key() -> str:
        if len(keys) == 1:
            settings.model = "hydra-v2"
        return keys.pop(0)

    endpoint = Endpoint("wss://example.com", "hydra-v1.1", SecretStr("none yet"), "header")
    dialer = Dialer(endpoint, Keyring(key), settings, Tracing(), open_timeout_secs=1.0)
    assert dialer.model == "hydra-v1.1"
    first = await dialer.dial()
    second = await dialer.dial()
    assert (first.model, first.api_key.get_secret_value()) == ("hydra-v1.1", "first")
    assert (second.model, second.api_key.get_secret_value()) == ("hydra-v2", "second")
    assert (second.base_url, second.auth) == ("wss://example.com", "header")
    assert dialer.model == "hydra-v2"
