"""Facts of the Hydra wire protocol, each stated once.

Everything here is a constant of Smallest AI's realtime speech-to-speech
WebSocket: rates, limits, models, voices, codes. No behaviour lives here, so the
service and the emulator may both read it and still be independent of each other.
A mistake in here is a mistake of both, and shows only in a call with Hydra.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

DEFAULT_BASE_URL: Final = "wss://api.smallest.ai/waves/v1/s2s"
"""The public endpoint, without query."""

KEY_VARIABLE: Final = "SMALLEST_API_KEY"
"""The environment variable with the key, for a client that is given none."""

BASE_URL_VARIABLE: Final = "HYDRA_BASE_URL"
"""The environment variable with the endpoint, for a client that is given none."""

DEFAULT_MODEL: Final = "hydra-v1.1"
"""The model that is current, and the server's own default."""

INPUT_SAMPLE_RATE: Final = 16_000
"""Rate of user audio in Hz; always mono PCM16 little-endian."""

BYTES_PER_SAMPLE: Final = 2
"""PCM16, both ways."""

MIN_APPEND_BYTES: Final = 320
"""Smallest `input_audio_buffer.append` the server takes (10 ms)."""

UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE: Final = 48_000
"""Rate of reply audio in Hz, for a model not in `MODELS` that echoes none."""

IDLE_TIMEOUT_SECS: Final = 30.0
"""The server closes a session after about this long without a frame either way."""

CONFIGURATION_WARNING_BYTES: Final = 16_000
"""Encoded `session.configure` above which to warn: above some 18 kB no audio came at all."""

CLOSE_NORMAL: Final = 1000
"""Close code of a normal end, and of the idle timeout."""

CLOSE_AT_CAPACITY: Final = 1013
"""Close code that follows an `error` event with code `server_full`."""


class ErrorCode:
    """The `error.code` values that are known."""

    INVALID_REQUEST: Final = "invalid_request_error"
    INVALID_FRAME: Final = "invalid_frame"
    INVALID_AUDIO: Final = "invalid_audio"
    TOOL_RESPONSE_TIMEOUT: Final = "tool_response_timeout"
    SERVER_FULL: Final = "server_full"
    SESSION_ENDED: Final = "session_ended"
    INTERNAL: Final = "internal_error"


VOICE_PARAM: Final = "session.configure.session.voice"
"""`error.param` of the error that rejects an unknown voice."""

MODEL_DEPRECATED: Final = "model_deprecated"
"""`code` of the `warning` event that a deprecated model sends first."""

SERVER_DEFAULT_VOICE: Final = "sterling"
"""What the server speaks with, on every model, when `session.configure` names no voice."""

V1_1_VOICES: Final = (
    "zoe",
    "maya",
    "elena",
    "ivy",
    "grace",
    "alex",
    "aria",
    "leo",
    "sam",
    "kai",
)
"""The voices that the vendor documents for `hydra-v1.1`."""

V1_0_VOICES: Final = (
    "vaughn",
    "brooks",
    "cole",
    "hayes",
    "pierce",
    "sterling",
    "ellis",
    "lane",
    "quinn",
    "arden",
    "rowan",
    "blair",
    "emery",
    "sawyer",
)
"""The voices that the vendor documents for `hydra-v1.0`."""

VOICES: Final = (*V1_1_VOICES, *V1_0_VOICES)
"""The known roster, the same for every model."""

UNLISTED_VOICES: Final = ("marin",)
"""Voices that a client of the vendor asks for, and that are in no list."""


@dataclass(frozen=True, slots=True)
class Model:
    """What is known of one Hydra model.

    Parameters:
        name: Value of the `model` query parameter.
        output_sample_rate: Rate of reply audio in Hz, seen on the wire.
        voices: The known roster. Rosters were replaced several times, so a voice
            that is not in it may exist all the same.
        default_voice: The voice to ask for when the application names none.
        deprecated: Whether the server warns that the model goes away.
    """

    name: str
    output_sample_rate: int
    voices: tuple[str, ...] = VOICES
    default_voice: str = SERVER_DEFAULT_VOICE
    deprecated: bool = False


_V1_1 = Model(name="hydra-v1.1", output_sample_rate=24_000, default_voice="aria")
_V1_0 = Model(name="hydra-v1.0", output_sample_rate=48_000)
_HYDRA = Model(name="hydra", output_sample_rate=48_000, deprecated=True)

MODELS: Final[Mapping[str, Model]] = MappingProxyType(
    {model.name: model for model in (_V1_1, _V1_0, _HYDRA)}
)
"""The models that are known, by name."""
