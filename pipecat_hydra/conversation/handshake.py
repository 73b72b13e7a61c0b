"""How a session becomes live: its phase, its configuration, its tools and its output rate.

Theory of operation. The phase is the one place that says how far the session is:

    OFFLINE      no socket
    CONNECTED    a socket is open; the server has not sent `session.created`
    CREATED      it has sent that, and no configuration has been given
    CONFIGURING  `session.configure` is sent
    LIVE         `session.configured` came

The configuration goes out as soon as the session is created, or as soon as it is given, if that is
later. It goes out once: what Hydra has been told is frozen, except for the tools, which
`session.update` changes. Tools that change during the handshake are put in force when it is over. A
configuration that is given to a session that has one is for the session that follows.

Each wait for the server has a deadline. A server that misses it fails the session. So does one that
rejects the configuration, whatever of it: the same configuration would be rejected again, whether
the server closes the connection or not. Only another voice may be tried in its place.

The configuration is kept when the connection is lost, for a session that nobody configures anew.

Pure: time is a parameter, in seconds of any monotonic clock. Protocol: §2.
"""

import json
from enum import Enum, auto
from typing import Final

from pipecat_hydra.conversation.effects import (
    Effect,
    Fail,
    FailureKind,
    Ready,
    Report,
    Send,
    SessionStarted,
    Severity,
)
from pipecat_hydra.conversation.event_ids import EventIds
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    ErrorDetail,
    FunctionTool,
    SessionConfiguration,
    SessionConfigure,
    SessionConfigured,
    SessionCreated,
    SessionInfo,
    SessionUpdate,
)
from pipecat_hydra.wire.protocol import (
    CONFIGURATION_WARNING_BYTES,
    MODELS,
    UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE,
    VOICE_PARAM,
    ErrorCode,
)

__all__ = ["Handshake", "Phase"]

# Errors that are about the session or the server, whatever was asked for.
_NO_REJECTIONS: Final = (ErrorCode.SERVER_FULL, ErrorCode.SESSION_ENDED, ErrorCode.INTERNAL)
_SANE_SAMPLE_RATES: Final = range(8_000, 192_001)


class Phase(Enum):
    """How far the session is; see the module's theory of operation."""

    OFFLINE = auto()
    CONNECTED = auto()
    CREATED = auto()
    CONFIGURING = auto()
    LIVE = auto()


class Handshake:
    """Brings one session after the other from an open socket to live."""

    def __init__(self, model: str, *, timeout_secs: float, event_ids: EventIds):
        """Make a handshake that is offline.

        Args:
            model: The model asked for; its rate is used when the server names none.
            timeout_secs: How long the server may take, in seconds, to create and again to
                configure the session.
            event_ids: Numbers what is sent.
        """
        self.model = model
        """The model asked for; may be changed while offline, or just before."""
        self._timeout = timeout_secs
        self._event_ids = event_ids
        self._phase = Phase.OFFLINE
        self._deadline: float | None = None
        self._configuration: SessionConfiguration | None = None
        self._tools_wanted: tuple[FunctionTool, ...] = ()
        self._tools_in_force: tuple[FunctionTool, ...] = ()
        self._output_sample_rate: int | None = None
        self._sessions = 0
        # The event that configures this session.
        self._configure_id: str | None = None

    @property
    def phase(self) -> Phase:
        """How far the session is."""
        return self._phase

    @property
    def live(self) -> bool:
        """Whether the session is configured and open."""
        return self._phase is Phase.LIVE

    @property
    def configuration_is_out(self) -> bool:
        """Whether the configuration was sent to this session, and so is frozen."""
        return self._phase in (Phase.CONFIGURING, Phase.LIVE)

    @property
    def is_configured(self) -> bool:
        """Whether a configuration has been given."""
        return self._configuration is not None

    @property
    def sessions(self) -> int:
        """How many sessions were configured so far."""
        return self._sessions

    @property
    def output_sample_rate(self) -> int | None:
        """Rate of reply audio in Hz, once the session is configured."""
        return self._output_sample_rate

    @property
    def expected_sample_rate(self) -> int:
        """Rate of reply audio in Hz, as far as it is known by now."""
        return self._output_sample_rate or self._negotiate_rate(None)

    @property
    def deadline(self) -> float | None:
        """When the server has to have answered; None while nothing is waited for."""
        return self._deadline

    def connected(self, now: float) -> None:
        """Record that a socket is open. The server sends the first event."""
        self._phase = Phase.CONNECTED
        self._deadline = now + self._timeout
        self._output_sample_rate = None

    def disconnected(self) -> None:
        """Record that the socket is gone."""
        self._phase = Phase.OFFLINE
        self._deadline = self._configure_id = None

    def configure(self, configuration: SessionConfiguration, now: float) -> list[Effect]:
        """Set the configuration; send it now if the session is created, else once it is."""
        self._configuration = configuration
        self._tools_wanted = configuration.tools or ()
        return self._send_configuration(now) if self._phase is Phase.CREATED else []

    def configure_again(self, *, speaks_first: bool) -> None:
        """Keep the configuration for the session that follows.

        Args:
            speaks_first: Whether the model shall speak first in it.
        """
        if self._configuration is not None:
            again = {"generate_initial_response": speaks_first}
            self._configuration = self._configuration.model_copy(update=again)

    def created(self, event: SessionCreated, now: float) -> list[Effect]:
        """Record that the server has created the session; send the configuration, if given."""
        if self._phase is not Phase.CONNECTED:
            return []
        self._phase = Phase.CREATED
        self._deadline = None
        return [SessionStarted(event.session_id), *self._send_configuration(now)]

    def _send_configuration(self, now: float) -> list[Effect]:
        configuration = self._configuration
        if configuration is None:
            return []
        self._phase = Phase.CONFIGURING
        self._tools_in_force = configuration.tools or ()
        self._deadline = now + self._timeout
        self._configure_id = self._event_ids.next()
        event = SessionConfigure(session=configuration, event_id=self._configure_id)
        effects: list[Effect] = [Send(event)]
        size = len(encode(event))
        if size > CONFIGURATION_WARNING_BYTES:
            effects.append(Report(Severity.WARNING, _oversize_message(configuration, size)))
        return effects

    def configured(self, event: SessionConfigured, *, lost_secs: float) -> list[Effect]:
        """Record that the session is live, at the first `session.configured`.

        Args:
            event: What the server says is in force.
            lost_secs: How much of the user's earlier audio was dropped, in seconds.
        """
        if self._phase is not Phase.CONFIGURING:
            return []
        self._phase = Phase.LIVE
        self._deadline = None
        self._sessions += 1
        session = event.session or SessionInfo()
        self._output_sample_rate = self._negotiate_rate(session.output_audio_sample_rate)
        effects: list[Effect] = [Ready(session, self._output_sample_rate, lost_secs)]
        voice = self._configuration.voice if self._configuration else None
        if voice is not None and session.voice not in (None, voice):
            message = f"Hydra speaks with voice {session.voice!r}, not {voice!r} as asked"
            effects.append(Report(Severity.WARNING, message))
        if lost_secs:
            message = (
                f"{lost_secs:.1f} s of what the user said before the session was ready are lost: "
                "it took longer than is kept"
            )
            effects.append(Report(Severity.WARNING, message))
        return effects + self._send_tools()

    def update_tools(self, tools: tuple[FunctionTool, ...]) -> list[Effect]:
        """Put other tools in force, once the session is live; send nothing if they are already."""
        self._tools_wanted = tools
        return self._send_tools()

    def _send_tools(self) -> list[Effect]:
        if not self.live or self._tools_wanted == self._tools_in_force:
            return []
        self._tools_in_force = self._tools_wanted
        return [Send(SessionUpdate.of(self._tools_wanted, event_id=self._event_ids.next()))]

    def rejected(self, error: ErrorDetail) -> list[Effect]:
        """Give the session up if an `error` event rejects its configuration; ignore any other."""
        if self._phase in (Phase.OFFLINE, Phase.LIVE) or not self._is_of_configuration(error):
            return []
        # What the server does next is open (protocol §2); it does not accept the configuration.
        self._deadline = None
        voice = self._configuration.voice if self._configuration else None
        says = error.message or error.code
        param = error.param or ""
        if param == VOICE_PARAM or param.rpartition(".")[2] == "voice":
            message = f"Hydra's {self.model} has no voice {voice!r}: {says}"
            return [Fail(FailureKind.CONFIGURATION, message, is_of_voice=voice is not None)]
        at = f" (at {param})" if param else ""
        message = (
            f"Hydra's {self.model} rejects the configuration of the session{at}: {says}. The same "
            "would be rejected again: correct the settings or the tools"
        )
        return [Fail(FailureKind.CONFIGURATION, message)]

    def _is_of_configuration(self, error: ErrorDetail) -> bool:
        """Whether an error that comes during the handshake is about what the session shall be."""
        if error.code in _NO_REJECTIONS:
            return False
        if error.event_id is not None and error.event_id == self._configure_id:
            return True
        if error.param and error.code != ErrorCode.INVALID_REQUEST:
            return error.param.startswith("session")
        # Nothing else has been asked of the server by then.
        return error.code in (ErrorCode.INVALID_REQUEST, ErrorCode.INVALID_FRAME)

    def tick(self, now: float) -> list[Effect]:
        """Give the session up if the server has not answered by `now`."""
        if self._deadline is None or now < self._deadline:
            return []
        self._deadline = None
        step = "session.configured" if self._phase is Phase.CONFIGURING else "session.created"
        message = f"Hydra sent no {step} within {self._timeout:g} s"
        return [Fail(FailureKind.TIMEOUT, message)]

    def _negotiate_rate(self, echoed: int | None) -> int:
        """Return the rate that the server names, else the model's, else the documented one."""
        if echoed is not None and echoed in _SANE_SAMPLE_RATES:
            return echoed
        known = MODELS.get(self.model)
        return known.output_sample_rate if known else UNKNOWN_MODEL_OUTPUT_SAMPLE_RATE


def _oversize_message(configuration: SessionConfiguration, size: int) -> str:
    instructions = len((configuration.instructions or "").encode(errors="replace"))
    dumped = (tool.model_dump() for tool in configuration.tools or ())
    tools = sum(
        len(json.dumps(tool, ensure_ascii=False, separators=(",", ":")).encode(errors="replace"))
        for tool in dumped
    )
    return (
        f"session.configure has {size} bytes (instructions {instructions}, tools {tools}). Hydra "
        "was seen to send no audio at all above some 18 kB: shorten the "
        f"{'instructions' if instructions >= tools else 'tools'}"
    )
