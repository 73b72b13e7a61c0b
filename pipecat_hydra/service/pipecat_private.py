"""The private names of Pipecat that this package uses, each with its reason.

Pipecat may move a private name in any release. All of them are listed here: the methods
and fields that are used, and the hooks of a base class that a subclass of ours overrides.
Importing this module checks that each of them exists, so that another Pipecat is refused
when the service is imported, with an error that names what is missing, and not in a call.

Code outside of such subclasses reaches a private name only through a function of this module.
"""

import inspect
from collections.abc import Awaitable, Collection, Coroutine
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, Final

from pipecat.audio.dtmf.types import KeypadEntry
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.dtmf_aggregator import DTMFAggregator
from pipecat.processors.aggregators.llm_response_universal import LLMUserAggregator
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.ai_service import AIService
from pipecat.services.llm_service import FunctionCallRegistryItem, LLMService
from pipecat.transports.base_input import BaseInputTransport
from pipecat.turns.user_start.base_user_turn_start_strategy import BaseUserTurnStartStrategy
from pipecat.turns.user_stop import BaseUserTurnStopStrategy
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.utils.base_object import BaseObject

from pipecat_hydra.service.pipecat_versions import BaseLLMAdapter

__all__ = [
    "KNOWN_VERSIONS",
    "PRIVATE_NAMES",
    "KeypadRules",
    "PrivateName",
    "base_instruction",
    "call_event_handler",
    "cancel_functions",
    "check",
    "interruptible_functions",
    "is_cancelled",
    "is_function_running",
    "keypad_rules",
    "registered_function",
    "resolves_proposed_starts",
    "restart_idle_timer",
    "start_strategies",
    "stop_strategies",
    "sync_tool_handlers",
]

KNOWN_VERSIONS: Final = ("1.13", "1.14")
"""The Pipecat releases that the package is tested with, oldest first."""

TurnDecider = LLMUserAggregator | UserTurnProcessor
"""A processor that decides user turns by the application's turn strategies."""


@dataclass(frozen=True, slots=True)
class PrivateName:
    """A private name of Pipecat.

    Parameters:
        owner: The class that defines it.
        name: The name.
        reason: What it is used for.
        is_field: Whether `owner.__init__` assigns it, rather than the class having it.
    """

    owner: type
    name: str
    reason: str
    is_field: bool = False

    @property
    def is_there(self) -> bool:
        """Whether this Pipecat has the name."""
        if not self.is_field:
            return hasattr(self.owner, self.name)
        # An instance would show what `__init__` assigns, but making one may have effects.
        return self.name in inspect.unwrap(self.owner.__init__).__code__.co_names


@dataclass(frozen=True, slots=True)
class KeypadRules:
    """How the keys that a user presses become a text.

    Parameters:
        prefix: What stands before them.
        last_key: The key that ends them.
        pause_secs: How long no key is pressed, in seconds, until they are complete without it.
    """

    prefix: str
    last_key: KeypadEntry
    pause_secs: float


PRIVATE_NAMES: Final = (
    # Hooks that a subclass of ours overrides.
    PrivateName(LLMService, "_service_tools", "overridden: gives the tools of the constructor"),
    PrivateName(AIService, "_update_settings", "overridden: begins a session when they change"),
    PrivateName(
        LLMService,
        "_compose_system_instruction",
        "overridden: the only notice that Pipecat or the application changed the instruction",
    ),
    PrivateName(
        LLMService,
        "_handle_interruptions",
        "overridden: the base class makes the user wait until each function has cleaned up",
    ),
    PrivateName(
        LLMService,
        "_run_function_call",
        "overridden: the base class leaves calls open whose function is cancelled from within",
    ),
    PrivateName(
        BaseInputTransport,
        "_start_audio_in_streaming",
        "overridden by the virtual transport of tests: audio begins to flow",
    ),
    # What a subclass of ours, or a function below, calls or reads.
    PrivateName(
        LLMService,
        "_cancel_function_call_tasks",
        "cancels running functions at an interruption; no public method does",
    ),
    PrivateName(
        LLMService,
        "_function_call_tasks",
        "tells which functions run, and which of them may still give a result",
        is_field=True,
    ),
    PrivateName(
        LLMService,
        "_sync_registered_tool_handlers",
        "registers the handlers of tools that came by no context frame",
    ),
    PrivateName(
        LLMService,
        "_functions",
        "tells whether a function goes on while the conversation does, before it is called",
        is_field=True,
    ),
    PrivateName(
        LLMService,
        "_base_system_instruction",
        "tells the application's instruction from what Pipecat has added to it",
        is_field=True,
    ),
    PrivateName(AIService, "_settings", "narrowed to the service's own type", is_field=True),
    PrivateName(
        AIService,
        "_warn_unhandled_updated_settings",
        "warns of settings that have no effect, in Pipecat's own words",
    ),
    PrivateName(
        FrameProcessor,
        "_cancelling",
        "reset for another run: Pipecat lets a processor create no task once it was cancelled",
        is_field=True,
    ),
    PrivateName(
        PipelineWorker,
        "_cancelled",
        "tells of a cancellation, whose frame waits until an end frame has passed all",
        is_field=True,
    ),
    PrivateName(BaseObject, "_register_event_handler", "declares the events of the service"),
    PrivateName(BaseObject, "_call_event_handler", "raises the events of the service"),
    PrivateName(
        BaseLLMAdapter,
        "_resolve_system_instruction",
        "decides between the settings' instruction and the context's, as everywhere in Pipecat",
    ),
    PrivateName(
        BaseLLMAdapter,
        "_warn_context_system_message",
        "warns of a system message in a context, as everywhere in Pipecat",
    ),
    PrivateName(
        BaseLLMAdapter,
        "_realtime_session_tools",
        "decides between the service's tools and the context's, as for all realtime services",
    ),
    *(
        PrivateName(
            DTMFAggregator,
            name,
            "tells when the keys are complete, and as which text the context gets them",
            is_field=True,
        )
        for name in ("_prefix", "_termination_digit", "_idle_timeout")
    ),
    *(
        PrivateName(
            owner,
            "_user_idle_controller",
            "restarts the timer of user idleness after a turn that was noise; nothing public does",
            is_field=True,
        )
        for owner in (LLMUserAggregator, UserTurnProcessor)
    ),
    *(
        PrivateName(
            owner,
            "_user_turn_controller",
            "tells which turn strategies are in force, and whether they take up proposed turns",
            is_field=True,
        )
        for owner in (LLMUserAggregator, UserTurnProcessor)
    ),
)
"""Every private name of Pipecat that the package uses or overrides."""


def check() -> None:
    """Check that this Pipecat has all the private names.

    Raises:
        ImportError: If a name is missing. The message says which, what it is used for, and
            which versions of Pipecat are known to work.
    """
    missing = [private for private in PRIVATE_NAMES if not private.is_there]
    if missing:
        names = "; ".join(f"{p.owner.__name__}.{p.name} ({p.reason})" for p in missing)
        raise ImportError(
            f"pipecat-hydra does not work with pipecat-ai {version('pipecat-ai')}, which has "
            f"moved what it relies on: {names}. Versions known to work: {', '.join(KNOWN_VERSIONS)}"
        )


def base_instruction(service: LLMService[Any]) -> str | None:
    """Return the application's own instruction, without the parts that Pipecat has appended."""
    return service._base_system_instruction


def call_event_handler(service: BaseObject, event: str, *args: Any) -> Awaitable[None]:
    """Call the application's handlers of an event."""
    return service._call_event_handler(event, *args)


def cancel_functions(
    service: LLMService[Any], call_ids: Collection[str]
) -> Coroutine[Any, Any, Any]:
    """Cancel the functions of these calls that still run."""
    return service._cancel_function_call_tasks(
        lambda call: call.tool_call_id in call_ids, reason="interruption"
    )


def interruptible_functions(service: LLMService[Any]) -> set[str]:
    """Return the calls whose functions run and are to be cancelled by an interruption."""
    return {
        call.tool_call_id
        for call in service._function_call_tasks.values()
        if call.registry_item.cancel_on_interruption
    }


def is_cancelled(worker: PipelineWorker) -> bool:
    """Whether the pipeline is to be cancelled."""
    return worker._cancelled


def is_function_running(service: LLMService[Any]) -> bool:
    """Whether a function runs that has not given its result, but may."""
    return any(not call.settled for call in service._function_call_tasks.values())


def keypad_rules(aggregator: DTMFAggregator) -> KeypadRules:
    """Return how an aggregator makes a text of keys."""
    return KeypadRules(aggregator._prefix, aggregator._termination_digit, aggregator._idle_timeout)


def registered_function(service: LLMService[Any], name: str) -> FunctionCallRegistryItem | None:
    """Return the registered function of this name, else the catch-all handler, else None."""
    return service._functions.get(name) or service._functions.get(None)


def has_function_of_name(service: LLMService[Any], name: str) -> bool:
    """Return whether a function is registered under this very name."""
    return name in service._functions


def resolves_proposed_starts(decider: TurnDecider) -> bool:
    """Return whether the strategies in force resolve proposed starts; they may change in a call."""
    return decider._user_turn_controller.resolves_proposed_turn_start_frames


def restart_idle_timer(decider: TurnDecider) -> Awaitable[None]:
    """Restart the timer of user idleness, unless somebody speaks."""
    return decider._user_idle_controller.wait_for_user()


def stop_strategies(decider: TurnDecider) -> list[BaseUserTurnStopStrategy]:
    """Return the strategies in force that decide when a turn stops."""
    return decider._user_turn_controller.user_turn_strategies.stop or []


def start_strategies(decider: TurnDecider) -> list[BaseUserTurnStartStrategy]:
    """Return the start strategies in force; they may change in a call."""
    return decider._user_turn_controller.user_turn_strategies.start or []


def sync_tool_handlers(service: LLMService[Any], tools: Any) -> None:
    """Register the handlers of these tools, or of the service's own if there are none."""
    service._sync_registered_tool_handlers(tools)


check()
