"""What can be adjusted about the emulated server."""

from dataclasses import dataclass, field
from typing import Literal

from pipecat.audio.vad.vad_analyzer import VADParams

from pipecat_hydra.wire.protocol import CLOSE_NORMAL, IDLE_TIMEOUT_SECS

CallsDone = Literal[
    "before_arguments_done",
    "before_outputs",
    "after_outputs",
    "before_narration",
    "after_narration_began",
]
"""When `response.done` of a response that calls tools comes (§6); see `EmulatorSettings`."""


def _default_vad() -> VADParams:
    # Volume plays no part: Pipecat measures it over 400 ms, so it would deafen the
    # first half second of a session, and Silero alone tells speech from noise well.
    # 0.6 s of silence ends a turn, well inside the 1.2 s that clients send (§5).
    return VADParams(confidence=0.7, start_secs=0.2, stop_secs=0.6, min_volume=0.0)


@dataclass(frozen=True, kw_only=True)
class EmulatorSettings:
    """The knobs of a `HydraEmulator`; the defaults are what the protocol document reports.

    Where the document says that nobody knows ("open"), a knob offers each reading, so
    that a client can be shown to be right either way.

    Parameters:
        created_delay_secs: Seconds between the upgrade and `session.created`.
        configured_delay_secs: Seconds between `session.configure` (or `session.created`,
            whichever is later) and its answer.
        early_audio: What happens to audio that comes before `session.configured` (§2):
            `"drop"` ignores it silently, `"end"` answers with an error `session_ended`
            and closes.
        configuration_limit_bytes: Encoded size of `session.configure` above which the
            session runs but sends no audio at all (§2).
        echo_output_rate: Whether `session.configured` carries `output_audio_sample_rate`.
        output_sample_rate: Rate of reply audio in Hz; `None` takes the model's own.
        delivery_speed: How many times faster than real time reply audio is sent (§5);
            `float("inf")` sends it at once.
        delta_ms: Milliseconds of audio in one `response.output_audio.delta`.
        odd_splits: Split reply audio at odd byte counts, with some deltas very short (§3).
        response_latency_secs: Seconds between the end of a turn, or `response.create`,
            and `response.created`.
        transcripts: Send `response.output_audio_transcript.delta` events, phrase by
            phrase and without the spaces between phrases (§3).
        vad: Pipecat's parameters of voice activity detection, for Silero.
        min_turn_ms: Milliseconds of voiced audio below which a turn is discarded as noise.
        cancel_on: When a response in flight is cancelled by the user's voice (§5):
            `"speech_started"` at once, `"turn_confirmed"` only after `min_turn_ms` of it,
            so that noise leaves the reply running.
        stopped_on_discard: Whether `speech_stopped` comes before the `incomplete` item of
            a discarded turn.
        stopped_lag_ms: Milliseconds after the first delta of the reply at which
            `speech_stopped` and the user's `item.done` come late (§3); 0 keeps the
            documented order.
        late_audio_after_cancel_ms: Milliseconds of the cancelled response's audio that are
            still sent after its `response.done` (§5).
        respond_to_create: What `response.create` does when neither a tool result nor a
            message is pending (§4): `True` makes the model speak, `False` does nothing,
            `"error"` is answered by an error `invalid_request_error`.
        honour_messages: Whether `message` items reach the model, so that the next
            `response.create` answers them (§4); if not, they are accepted silently.
        arguments_delta_chars: Characters in one `response.function_call_arguments.delta`;
            cuts fall anywhere, inside tokens and escapes too (§3).
        arguments_delta_secs: Seconds between two of them.
        name_in_every_delta: Whether each of them names the tool, or only the first (§3).
        arguments_done_has_name: Whether `response.function_call_arguments.done` names the
            tool (§3).
        arguments_done_has_arguments: Whether it repeats the arguments (§3).
        call_items: Whether calls come with `conversation.item.added` and `.done` (§6).
        calls_done: When `response.done` of a response that calls tools comes (§6):
            `"before_arguments_done"` after all deltas, but before the calls are complete;
            `"before_outputs"` as soon as they are complete; `"after_outputs"` once an
            output has come for each; `"before_narration"` once `response.create` has come
            too, just before the narration's `response.created`;
            `"after_narration_began"` just after that. When the user interrupts or the
            client cancels before it came, it comes then, as `cancelled`; when the tools
            time out, as `failed`.
        tool_timeout_secs: Seconds a calling response waits for its outputs and for
            `response.create` before an error `tool_response_timeout` (§3). Its turn is
            then abandoned: there will be no narration, and outputs are errors.
        idle_timeout_secs: Seconds without a frame either way before the close (§1).
        max_sessions: Sessions open at the same time above which a new one gets
            `server_full` (§1); `None` for no limit.
        uplink_speed: How many times faster than real time user audio may come without end.
        uplink_burst_secs: Seconds of user audio that may come ahead of that speed, for a
            network that stalls; what exceeds it is a dumped file, and ends the session (§3).
        session_ended_close_code: Close code that follows an error `session_ended`.
        record: Keep what sessions received and sent. Turn it off on a server that runs
            for days.
    """

    created_delay_secs: float = 0.0
    configured_delay_secs: float = 0.0
    early_audio: Literal["drop", "end"] = "drop"
    configuration_limit_bytes: int = 18_000
    echo_output_rate: bool = True
    output_sample_rate: int | None = None
    delivery_speed: float = 10.0
    delta_ms: int = 40
    odd_splits: bool = False
    response_latency_secs: float = 0.05
    transcripts: bool = False
    vad: VADParams = field(default_factory=_default_vad)
    min_turn_ms: int = 300
    cancel_on: Literal["speech_started", "turn_confirmed"] = "speech_started"
    stopped_on_discard: bool = True
    stopped_lag_ms: int = 0
    late_audio_after_cancel_ms: int = 0
    respond_to_create: bool | Literal["error"] = True
    honour_messages: bool = True
    arguments_delta_chars: int = 8
    arguments_delta_secs: float = 0.0
    name_in_every_delta: bool = False
    arguments_done_has_name: bool = True
    arguments_done_has_arguments: bool = True
    call_items: bool = True
    calls_done: CallsDone = "before_outputs"
    tool_timeout_secs: float = 20.0
    idle_timeout_secs: float = IDLE_TIMEOUT_SECS
    max_sessions: int | None = None
    uplink_speed: float = 2.5
    uplink_burst_secs: float = 3.0
    session_ended_close_code: int = CLOSE_NORMAL
    record: bool = True

    def __post_init__(self) -> None:
        for name in (
            "delivery_speed",
            "delta_ms",
            "arguments_delta_chars",
            "idle_timeout_secs",
            "uplink_speed",
        ):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be greater than 0")
