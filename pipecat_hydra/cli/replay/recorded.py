"""Reads from a recorded call what a pipeline needs to hold it again: settings and functions."""

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipecat.frames.frames import Frame, LLMSetToolsFrame, LLMUpdateSettingsFrame
from pipecat.services.llm_service import FunctionCallParams

from pipecat_hydra import HydraLLMService
from pipecat_hydra.recording import Record, Recording
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema

__all__ = ["RecordedFunction", "RecordedFunctions", "later_frames", "service_settings", "tools"]


@dataclass(frozen=True, slots=True)
class RecordedFunction:
    """A function call of the recording.

    Parameters:
        name: Name of the function.
        secs: How long the function took, in seconds; `None` if it did not end.
        result: What it gave.
        error: Why it failed, if it did.
    """

    name: str
    secs: float | None
    result: Any = None
    error: str | None = None


class RecordedFunctions:
    """Answers the function calls of a replay with the recorded results, after as long.

    A call is known by its id. One whose id was not recorded, because the server's side is not
    the recording's, is the next one of its function.
    """

    def __init__(self, recording: Recording):
        """Read the calls of a recording."""
        self._by_id = dict(_functions(recording.records))
        self._by_name: dict[str, deque[RecordedFunction]] = defaultdict(deque)
        for call in self._by_id.values():
            self._by_name[call.name].append(call)

    async def answer(self, params: FunctionCallParams) -> None:
        """Handle one call.

        Args:
            params: Names the call, and takes the result.
        """
        recorded = self._by_id.get(params.tool_call_id)
        if recorded is None and (left := self._by_name[params.function_name]):
            recorded = left.popleft()
        if recorded is None:
            await params.result_callback({"error": "the recording has no such call"})
            return
        # One that did not end was cancelled, or the call ended before it did.
        await asyncio.sleep(float("inf") if recorded.secs is None else recorded.secs)
        if recorded.error is not None:
            raise RuntimeError(recorded.error)
        await params.result_callback(recorded.result)


def service_settings(recording: Recording) -> HydraLLMService.Settings:
    """Return the settings with which the recorded call began."""
    told = _configuration(recording)
    return HydraLLMService.Settings(
        model=recording.header.get("model"),
        voice=told.get("voice"),
        system_instruction=told.get("instructions"),
        generate_initial_response=bool(told.get("generate_initial_response", False)),
    )


def tools(recording: Recording) -> ToolsSchema | None:
    """Return the functions that the model could call when the recorded call began."""
    return _schema(_configuration(recording).get("tools"))


def later_frames(recording: Recording) -> list[tuple[float, Frame]]:
    """Return the frames by which the application changed settings and tools, with their times."""
    frames: list[tuple[float, Frame]] = []
    for record in recording.records:
        if record.source == "call" and record.type == "settings":
            delta = HydraLLMService.Settings.from_mapping(record.data)
            frames.append((record.t, LLMUpdateSettingsFrame(delta=delta)))
        elif record.source == "client" and record.type == "session.update":
            schema = _schema(record.data.get("session", {}).get("tools"))
            frames.append((record.t, LLMSetToolsFrame(tools=schema or ToolsSchema([]))))
    return frames


def _configuration(recording: Recording) -> Mapping[str, Any]:
    for record in recording.records:
        if record.source == "client" and record.type == "session.configure":
            return record.data.get("session", {})
    return {}


def _schema(tools: Any) -> ToolsSchema | None:
    schemas: list[Any] = []
    for tool in tools or ():
        parameters = tool.get("parameters", {})
        schemas.append(
            FunctionSchema(
                name=tool["name"],
                description=tool.get("description", ""),
                properties=parameters.get("properties", {}),
                required=parameters.get("required", []),
            )
        )
    return ToolsSchema(standard_tools=schemas) if schemas else None


def _functions(records: Sequence[Record]) -> Iterator[tuple[str, RecordedFunction]]:
    """Yield the function calls that were begun, with their ids."""
    pipeline = [record for record in records if record.source == "pipeline"]
    ends = {r.data.get("call_id"): r for r in pipeline if r.type == "function_ended"}
    for record in pipeline:
        if record.type != "function_started":
            continue
        call_id, name = str(record.data.get("call_id")), str(record.data.get("name"))
        end = ends.get(call_id)
        if end is None or end.data.get("cancelled"):
            yield call_id, RecordedFunction(name, None)
        else:
            secs, error = max(0.0, end.t - record.t), end.data.get("error")
            yield call_id, RecordedFunction(name, secs, end.data.get("result"), error)
