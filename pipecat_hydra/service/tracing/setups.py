"""Records the `llm_setup` spans: how each session was connected and configured."""

from typing import Final

from pipecat_hydra.conversation.effects import (
    Connected,
    GivenUp,
    Lost,
    PipelineEffect,
    Queued,
    Ready,
    Rested,
    Retrying,
    SessionStarted,
)
from pipecat_hydra.service.tracing.spans import Attributes, Error, Span, Spans
from pipecat_hydra.wire.events import SessionConfiguration

# Pipecat cuts at this too.
_MAX_INSTRUCTIONS: Final = 500


class SetupSpans:
    """Records the setup of one session after the other.

    A setup begins with the first attempt to connect, or when a session is lost. It ends when the
    session is ready, or when the service stops trying.

    Args:
        spans: Creates the spans. The attributes of the session are kept there.
    """

    def __init__(self, spans: Spans) -> None:
        self._spans = spans
        self._setup: Span | None = None
        self._attempts = 0
        self._sessions = 0

    def connecting(self, model: str) -> None:
        """Record an attempt to connect.

        Args:
            model: The model asked for.
        """
        self._spans.session = {"gen_ai.request.model": model}
        self._begin()
        self._attempts += 1

    def configuring(self, configuration: SessionConfiguration, instruction: str | None) -> None:
        """Record that a session is sent its configuration.

        Args:
            configuration: The configuration.
            instruction: The application's part of the instructions.
        """
        setup = self._begin()
        tools = configuration.tools or ()
        setup.attributes |= {
            "tools.count": len(tools),
            "tools.available": bool(tools),
            "hydra.instructions.bytes": len(
                (configuration.instructions or "").encode(errors="replace")
            ),
            "hydra.generate_initial_response": bool(configuration.generate_initial_response),
        }
        if tools:
            setup.attributes["tools.names"] = ",".join(tool.name for tool in tools)
        if instruction:
            setup.attributes["gen_ai.system_instructions"] = instruction[:_MAX_INSTRUCTIONS]
        if configuration.voice is not None:
            self._spans.session["voice_id"] = configuration.voice
        setup.events.append(("session.configure", self._spans.now(), {}))

    def see(self, effect: PipelineEffect) -> None:
        """Record an effect that concerns the connection; ignores all others."""
        match effect:
            case Queued(position):
                self._note("queued", {"position": position})
            case Connected():
                self._note("connected")
            case SessionStarted(session_id):
                if session_id is not None:
                    self._spans.session["hydra.session.id"] = session_id
                self._note("session.created")
            case Ready():
                self._finish_ready(effect)
            case Lost(_, message):
                setup = self._begin()
                setup.attributes["hydra.reconnect"] = effect.configured
                setup.attributes["hydra.lost_by"] = message
            case Retrying(attempt, delay_secs, kind, message):
                about = {"error.type": kind.value, "message": message, "delay_secs": delay_secs}
                self._note("retry", {"attempt": attempt, **about})
            case GivenUp(kind, message):
                self.finish((kind.value, message))
            case Rested(message, failed):
                self.finish(("_OTHER", message) if failed else None, reason=message)
            case _:
                pass

    def finish(self, error: Error | None = None, *, reason: str = "") -> None:
        """End the setup, if one is open.

        Args:
            error: The error that it ended with, if any.
            reason: Why there will be no session, if that is no error.
        """
        setup, self._setup = self._setup, None
        if setup is None:
            return
        setup.attributes |= {"hydra.attempts": self._attempts, **self._spans.session}
        if reason:
            setup.attributes["hydra.ended_by"] = reason
        self._spans.create(setup, error)

    def _begin(self) -> Span:
        if self._setup is None:
            self._attempts = 0
            now, parent = self._spans.now(), self._spans.parent()
            self._setup = Span("llm_setup", "llm_setup", now, parent, {"hydra.reconnect": False})
        return self._setup

    def _note(self, event: str, about: Attributes | None = None) -> None:
        if self._setup is not None:
            self._setup.events.append((event, self._spans.now(), about or {}))

    def _finish_ready(self, ready: Ready) -> None:
        if ready.session.voice is not None:
            self._spans.session["voice_id"] = ready.session.voice
        self._sessions += 1
        if self._setup is not None:
            self._setup.attributes |= {
                "hydra.session.number": self._sessions,
                "hydra.output_sample_rate": ready.output_sample_rate,
            }
            if ready.lost_secs:
                self._setup.attributes["hydra.lost_secs"] = ready.lost_secs
        self.finish()
