"""What tests of function calls share: how functions are given, and what Hydra was told of them."""

from typing import Any

from pipecat.processors.aggregators.llm_context import LLMContext
from support.call import Shape, session

from pipecat_hydra.emulator import Call, HydraEmulator, Say, Script

__all__ = ["messages", "nothing_in_progress", "outputs", "requests", "script", "tools"]


def script(*calls: Call) -> Script:
    """A first turn that calls, with a narration; then echo."""
    return Script([[*calls, Say.tones()]])


def tools(shape: Shape, *functions: Any) -> dict[str, Any]:
    """The arguments of `call` that give these functions to a service."""
    if shape == "bare":
        return {"tools": list(functions)}
    return {"context": LLMContext(tools=list(functions))}


def outputs(hydra: HydraEmulator) -> list[tuple[str, str]]:
    """The answers to function calls, with the id of each call."""
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [(i["call_id"], i["output"]) for i in items if i["type"] == "function_call_output"]


def messages(hydra: HydraEmulator) -> list[str]:
    """The text messages."""
    items = [r.event["item"] for r in session(hydra).received_of("conversation.item.create")]
    return [i["content"][0]["text"] for i in items if i["type"] == "message"]


def requests(hydra: HydraEmulator) -> int:
    """How often the model was asked to speak."""
    return len(session(hydra).received_of("response.create"))


def nothing_in_progress(context: LLMContext | None) -> bool:
    """Whether the context, if there is one, has the result of each call."""
    return context is None or "IN_PROGRESS" not in str(context.get_messages())
