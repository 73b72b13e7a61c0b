"""The settings of the emulator."""

from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from pipecat.audio.vad.vad_analyzer import VADParams

from pipecat_hydra.wire.protocol import CLOSE_NORMAL, IDLE_TIMEOUT_SECS

CallsDone = Literal[
    "before_arguments_done",
    "before_outputs",
    "after_outputs",
    "before_narration",
    "after_narration_began",
]
"""When `response.done` of a response that calls tools is sent (§6); see `EmulatorSettings`."""


def _default_vad() -> VADParams:
    # The volume is ignored: Pipecat measures it over 400 ms, so speech in the first half second
    # of a session would be missed, and Silero alone distinguishes speech from noise well.
    # 0.6 s of silence ends a turn, well below the 1.2 s of silence that clients send (§5).
    return VADParams(confidence=0.7, start_secs=0.2, stop_secs=0.6, min_volume=0.0)


class OriginError(ValueError):
    """An origin is none that a browser would send."""


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """Settings of a `HydraEmulator`. The defaults are what the protocol document reports.

    Where the document says that the real server's behaviour is not known ("open"), or where its
    sources disagree, a setting offers each possibility, so that a client can be tested with all
    of them. The settings are a table, with one field for each such choice, in groups: connection,
    handshake, the user's audio and turns, replies, their text, requests, function calls, and the
    server itself.

    Parameters:
        allowed_origins: Origins of the web pages that may connect, such as
            `"http://localhost:3000"`. The emulator refuses all other pages with HTTP 403, because
            a browser lets any page on the internet connect to this machine. Clients that are no
            browsers send no origin, or the emulator's own address, and always may.
        redirect_status: HTTP status, 307 or 308, by which each upgrade request is redirected once,
            to another path of the same host; `None` to redirect none.
        max_sessions: Sessions open at the same time above which a new one gets
            `server_full` (§1); `None` for no limit.
        idle_timeout_secs: Seconds without a frame in either direction until the server closes
            the session (§1).
        session_ended_close_code: Close code that follows an error `session_ended`; with `None`
            there is no close, and the session reacts to nothing any more.
        created_delay_secs: Seconds between the upgrade and `session.created`.
        configured_delay_secs: Seconds between `session.configure` (or `session.created`,
            whichever is later) and its answer.
        early_audio: What happens to audio that comes before `session.configured` (§2):
            `"drop"` ignores it, `"end"` sends an error `session_ended` and closes.
        configuration_limit_bytes: Encoded size of `session.configure` in bytes above which
            the session runs but sends no audio (§2).
        voices: Which voices are accepted (§2): `"known"` those that the live service accepts or a
            client of the vendor depends on, `"by_model"` only those that are documented for the
            model, `"any"` every name, for clients of the time when other rosters were in force.
        after_rejection: What follows the error that rejects a voice (§2): `"wait"` nothing, not
            even an answer to another `session.configure`; `"retry"` another one is answered;
            `"close"` the session is closed with code 1000; `"default_voice"` the session is
            configured all the same, with the server's default voice.
        echo_output_rate: Whether `session.configured` carries `output_audio_sample_rate`.
        output_sample_rate: Rate of reply audio in Hz; `None` for the rate of the model.
        honour_output_rate: Whether the `output_audio_sample_rate` that a client asks for is used
            (§2); if not, it is ignored.
        vad: Pipecat's parameters of voice activity detection, for Silero.
        min_turn_ms: Milliseconds of voiced audio below which a turn is discarded as noise.
        gap_ends_turn_secs: Seconds without audio, while the user speaks, after which the turn
            ends as if silence had come. So a client that streams a recording without silence
            after it gets an answer. With `None` only silence ends a turn (§5).
        cancel_on: When the user's voice cancels the response in flight (§5):
            `"speech_started"` at once, `"turn_confirmed"` only after `min_turn_ms` of voice,
            so that noise cancels nothing.
        tell_interruptions: Whether a turn of the user during a response has events of its own,
            and the response a `response.done`. If not, only the `response.created` of the next
            response tells that the old one was interrupted (§5).
        stopped_on_discard: Whether `speech_stopped` comes before the `incomplete` item of
            a discarded turn.
        speech_stopped: Whether the end of a turn is told by `speech_stopped`. If not, only the
            turn's item, or the reply, tells that the turn is over.
        user_items: Whether the user's turns have `conversation.item.added` and `.done`. If not,
            nothing tells a discarded turn from a real one but the missing reply.
        late_user_items: Whether those items are added only when the turn ends (§3).
        stopped_lag_ms: Milliseconds from the first delta of the reply until `speech_stopped`
            and `item.done` of the user's turn are sent (§3); 0 sends them before the reply,
            as documented.
        uplink_speed: How many times faster than real time user audio may come continuously.
        uplink_burst_secs: Seconds of user audio that may come ahead of `uplink_speed`, for a
            network that stalls. More is taken for a file sent at once, and ends the session
            (§3).
        response_latency_secs: Seconds between the end of a turn, or `response.create`,
            and `response.created`.
        response_ids: Which ids responses have: each a `"unique"` one, each the same (`"reused"`),
            or none at all (`"absent"`).
        delivery_speed: How many times faster than real time reply audio is sent (§5);
            `float("inf")` sends it at once.
        delta_ms: Milliseconds of audio in one `response.output_audio.delta`, at least a sample.
        odd_splits: Split reply audio at odd byte counts, with some very short deltas (§3).
        audio_key: The field of `response.output_audio.delta` that holds the audio: `"delta"` as
            documented, or `"audio"`, which a client of the vendor reads too.
        base64_lines: Whether the audio's base64 is broken into lines, as MIME encoders do.
        late_audio_after_cancel_ms: Milliseconds of a cancelled response's audio that are
            still sent after its `response.done` (§5).
        late_audio_after_done_ms: Milliseconds of a completed response's audio that are still to
            be sent when `response.done` is; they follow it.
        transcripts: Send `response.output_audio_transcript` events, phrase by phrase and without
            the spaces between phrases (§3); `None` sends them if the responder is a script that
            has any.
        transcript_events: Which events those are: `"deltas"`, one `"done"` with the whole text,
            or `"both"`.
        late_transcripts: Whether the transcripts come only after `response.done`.
        item_texts: Whether the items of replies contain their text (§3).
        user_item_text: Text in the items of the user's turns (§3), the same for each turn, since
            the emulator knows no words; `None` for a null text.
        unknown_types: What happens to client events of unknown types (§3): `"reject"` answers
            with an error `invalid_frame`, `"ignore"` does nothing.
        respond_to_create: What `response.create` does when neither a tool output nor a
            message is pending (§4): `True` makes the model speak, `False` does nothing,
            `"error"` sends an error `invalid_request_error`.
        honour_messages: Whether the model knows `message` items, so that the next
            `response.create` answers them (§4); if not, they are accepted and ignored.
        calls_told: Which events tell a call: `"events"` those for its arguments and, with
            `call_items`, its items; `"items"` its items alone; `"output"` only `output` of
            `response.done`, which then has to come before the outputs.
        call_items: Whether calls have `conversation.item.added` and `.done` (§6).
        arguments_delta_chars: Characters in one `response.function_call_arguments.delta`;
            the arguments are split anywhere, also inside tokens and escapes (§3).
        arguments_delta_secs: Seconds between two `response.function_call_arguments.delta`.
        name_in_every_delta: Whether each `response.function_call_arguments.delta` names the
            tool, or only the first (§3).
        arguments_done_has_name: Whether `response.function_call_arguments.done` names the
            tool (§3).
        arguments_done_has_arguments: Whether `response.function_call_arguments.done` repeats
            the arguments (§3).
        arguments_as_object: Whether whole arguments are sent as the JSON object itself, and not as
            its text; fragments are text (§3).
        calls_done: When `response.done` of a response that calls tools is sent (§6):
            `"before_arguments_done"` after all deltas, but before the calls are complete;
            `"before_outputs"` as soon as the calls are complete; `"after_outputs"` once each
            call has an output; `"before_narration"` once `response.create` has come too, just
            before the narration's `response.created`; `"after_narration_began"` just after
            that. If the user interrupts or the client cancels before, it is sent then, as
            `cancelled`; if the tools time out, as `failed`.
        tool_timeout_secs: Seconds that a response which calls tools waits for the outputs and
            for `response.create` before an error `tool_response_timeout` (§3). Then there is
            no narration any more, and outputs of its calls are errors.
        record: Record what sessions receive and send. Turn it off on a server that runs
            for days.

    Raises:
        OriginError: An allowed origin is none that a browser would send.
        ValueError: A setting is not greater than 0 and must be, or contradicts another.
    """

    allowed_origins: tuple[str, ...] = ()
    redirect_status: Literal[307, 308] | None = None
    max_sessions: int | None = None
    idle_timeout_secs: float = IDLE_TIMEOUT_SECS
    session_ended_close_code: int | None = CLOSE_NORMAL

    created_delay_secs: float = 0.0
    configured_delay_secs: float = 0.0
    early_audio: Literal["drop", "end"] = "drop"
    configuration_limit_bytes: int = 18_000
    voices: Literal["known", "by_model", "any"] = "known"
    after_rejection: Literal["wait", "retry", "close", "default_voice"] = "wait"
    echo_output_rate: bool = True
    output_sample_rate: int | None = None
    honour_output_rate: bool = False

    vad: VADParams = field(default_factory=_default_vad)
    min_turn_ms: int = 300
    gap_ends_turn_secs: float | None = None
    cancel_on: Literal["speech_started", "turn_confirmed"] = "speech_started"
    tell_interruptions: bool = True
    stopped_on_discard: bool = True
    speech_stopped: bool = True
    user_items: bool = True
    late_user_items: bool = False
    stopped_lag_ms: int = 0
    uplink_speed: float = 2.5
    uplink_burst_secs: float = 3.0

    response_latency_secs: float = 0.05
    response_ids: Literal["unique", "reused", "absent"] = "unique"
    delivery_speed: float = 10.0
    delta_ms: float = 40
    odd_splits: bool = False
    audio_key: Literal["delta", "audio"] = "delta"
    base64_lines: bool = False
    late_audio_after_cancel_ms: int = 0
    late_audio_after_done_ms: int = 0

    transcripts: bool | None = None
    transcript_events: Literal["deltas", "done", "both"] = "deltas"
    late_transcripts: bool = False
    item_texts: bool = False
    user_item_text: str | None = None

    unknown_types: Literal["reject", "ignore"] = "reject"
    respond_to_create: bool | Literal["error"] = True
    honour_messages: bool = True

    calls_told: Literal["events", "items", "output"] = "events"
    call_items: bool = True
    arguments_delta_chars: int = 8
    arguments_delta_secs: float = 0.0
    name_in_every_delta: bool = False
    arguments_done_has_name: bool = True
    arguments_done_has_arguments: bool = True
    arguments_as_object: bool = False
    calls_done: CallsDone = "before_outputs"
    tool_timeout_secs: float = 20.0

    record: bool = True

    def __post_init__(self) -> None:
        for name in (
            "delivery_speed",
            "delta_ms",
            "arguments_delta_chars",
            "idle_timeout_secs",
            "uplink_speed",
            "gap_ends_turn_secs",
        ):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be greater than 0")
        if self.calls_told == "output" and self.calls_done not in (
            "before_arguments_done",
            "before_outputs",
        ):
            raise ValueError("calls_told='output' needs a calls_done before the outputs")
        for origin in self.allowed_origins:
            _check_origin(origin)


def _check_origin(origin: str) -> None:
    """Refuse what no browser sends, since it would never match."""
    parts = urlsplit(origin)
    whole = f"{parts.scheme}://{parts.netloc}"
    if origin != "null" and (
        not parts.scheme or not parts.netloc or origin.lower() != whole.lower()
    ):
        raise OriginError(
            f"{origin!r} is no origin of a page: write it as scheme://host:port, with neither a "
            "path nor a slash at the end, such as http://localhost:3000"
        )
