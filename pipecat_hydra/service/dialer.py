"""Says where to connect to, with which key and for which model, each time a session is opened."""

from dataclasses import replace

from pipecat_hydra.service.settings import HydraLLMSettings, wanted
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.keys import Keyring

__all__ = ["Dialer"]


class Dialer:
    """Returns the endpoint of the next connection and remembers that of the last one."""

    def __init__(
        self,
        endpoint: Endpoint,
        keyring: Keyring,
        settings: HydraLLMSettings,
        tracing: Tracing,
        *,
        open_timeout_secs: float,
    ):
        """Make a dialer that has returned no endpoint yet.

        Args:
            endpoint: The endpoint without a key, and the model to begin with.
            keyring: Has the key.
            settings: Name the model; read anew each time.
            tracing: Told of each attempt.
            open_timeout_secs: How long getting a key may take, in seconds.
        """
        self._endpoint = endpoint
        self._keyring = keyring
        self._settings = settings
        self._tracing = tracing
        self._open_timeout = open_timeout_secs

    @property
    def model(self) -> str:
        """The model of the endpoint that was returned last."""
        return self._endpoint.model

    async def dial(self) -> Endpoint:
        """Return where to connect to now."""
        self._tracing.connecting(wanted(self._settings).model)
        key = await self._keyring.key(timeout_secs=self._open_timeout)
        # The model may have changed while the key was fetched.
        model = wanted(self._settings).model
        self._endpoint = replace(self._endpoint, model=model, api_key=key)
        return self._endpoint
