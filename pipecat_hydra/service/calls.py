"""Has the functions run that the model calls, and tells Hydra their results.

Pipecat runs them (`LLMService.run_function_calls`) and reports how each ends by frames that
the service pushes. `FunctionRuns` sees to it that each call gets such a frame, and
`FunctionAnswers` makes one answer of those frames. A model that calls and calls and says nothing
is reported and, if the application has set a limit, told to speak (`ToolRounds`).

An interruption cancels the functions that run when it comes. If it is the echo of a user turn that
may be noise, they run on until the turn is known to be real (F4). If it is the late echo of a turn
that Hydra answers already, the functions that were called for the answer run on.
"""

from collections.abc import Collection, Coroutine, Sequence
from typing import Any

from loguru import logger
from pipecat.frames.frames import (
    Frame,
    FunctionCallCancelFrame,
    FunctionCallFromLLM,
    FunctionCallResultFrame,
)
from pipecat.services.llm_service import FunctionCallRunnerItem, LLMService

from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import ToolCall
from pipecat_hydra.service.contexts import Contexts
from pipecat_hydra.service.function_runs import FunctionRuns
from pipecat_hydra.service.functions import FunctionAnswers, parse_arguments
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.meters import Meters
from pipecat_hydra.service.outcomes import Settling
from pipecat_hydra.service.pipecat_private import call_event_handler, registered_function
from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.service.tool_rounds import ToolRounds
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.session.connection import HydraConnection

__all__ = ["FunctionCalls"]


class FunctionCalls:
    """Has the calls of the model made, and answers each once."""

    def __init__(
        self,
        service: LLMService[Any],
        connection: HydraConnection,
        conversation: Conversation,
        session: WantedSession,
        *,
        contexts: Contexts,
        in_force: InForce,
        meters: Meters,
        surroundings: Surroundings,
        tracing: Tracing,
        no_result_timeout_secs: float | None,
        max_tool_rounds: int | None,
    ):
        """Start with no call.

        Args:
            service: Runs the functions. Its `push_frame` must let us `see` each frame, and its
                `_run_function_call` must run the function by `run_function`.
            connection: Performs what the conversation asks for.
            conversation: Takes the answers.
            session: Opened when the model shall speak about an answer.
            contexts: Told of each result.
            in_force: Knows the context that is passed to a function.
            meters: Told of each call that is refused or settled.
            surroundings: Knows whether another service has the call.
            tracing: Told of each call that is refused, answered or settled.
            no_result_timeout_secs: How long a call whose function has returned without a result
                waits for it, in seconds; None for ever.
            max_tool_rounds: How many rounds of calls the model may make with nothing said; None
                for any number.
        """
        self._service = service
        self._connection = connection
        self._conversation = conversation
        self._session = session
        self._contexts = contexts
        self._in_force = in_force
        self._meters = meters
        self._surroundings = surroundings
        self._tracing = tracing
        # The calls to cancel when the user's turn turns out to be real.
        self._at_stake: set[str] = set()
        # The calls whose functions ran when the user's last turn began.
        self._before_turn: set[str] = set()
        self._answers = FunctionAnswers(
            service.name,
            answer=self._answer,
            tell=lambda text, respond: session.send_message(text, respond=respond),
        )
        self._runs = FunctionRuns(
            service,
            no_result_timeout_secs=no_result_timeout_secs,
            on_no_result=self._answers.expect_late_result,
        )
        self._rounds = ToolRounds(max_tool_rounds)

    async def run(self, calls: Sequence[ToolCall]) -> None:
        """Run the calls of one response, as one group."""
        this = self._rounds.begin()
        if this.is_loop:
            await self._report_loop(this.number, calls)
        if not this.is_allowed:
            for call in calls:
                self._refuse(call, "too_many_rounds", "nothing said for too long")
                self._answers.refuse_round(call.call_id, respond=this.may_speak)
            return
        runnable: list[FunctionCallFromLLM] = []
        for call in calls:
            arguments = parse_arguments(call.arguments)
            if arguments is None:
                self._refuse(call, "invalid_arguments", "not a JSON object")
                self._answers.refuse_arguments(call.call_id, call.name)
                continue
            registered = registered_function(self._service, call.name)
            if registered is not None and not registered.cancel_on_interruption:
                self._answers.begin_running(call.call_id)
            self._runs.begin(call.call_id)
            runnable.append(
                FunctionCallFromLLM(
                    function_name=call.name,
                    tool_call_id=call.call_id,
                    arguments=arguments,
                    context=self._in_force.context,
                )
            )
        await self._service.run_function_calls(runnable)

    def _refuse(self, call: ToolCall, kind: str, reason: str) -> None:
        self._tracing.refuse(call.call_id, kind, reason)
        self._meters.refuse(call.call_id, kind)

    async def _report_loop(self, rounds: int, calls: Sequence[ToolCall]) -> None:
        names = [call.name for call in calls]
        logger.warning(
            f"{self._service}: the model has called functions {rounds} times in a row with nothing "
            f"said, now {', '.join(map(repr, names))}; max_tool_rounds limits that"
        )
        await call_event_handler(self._service, "on_tool_loop", rounds, names)

    def on_said(self) -> None:
        """Take note that the model or the user has said something."""
        self._rounds.said()

    async def run_function(
        self, item: FunctionCallRunnerItem, running: Coroutine[Any, Any, None]
    ) -> None:
        """Run the function of one call; `running` is what Pipecat does for it."""
        await self._runs.run(item, running)

    def see(self, frame: Frame) -> None:
        """Tell Hydra how a call ended, if that is what a pushed frame says."""
        if isinstance(frame, FunctionCallResultFrame):
            if frame.properties is None or frame.properties.is_final:
                self._runs.settled(frame.tool_call_id)
            self._settle(frame)
            self._answers.on_result(frame)
            self._contexts.on_result(frame)
        elif isinstance(frame, FunctionCallCancelFrame):
            self._runs.settled(frame.tool_call_id)
            self._settle(frame)
            self._answers.on_cancel(frame)
            self._contexts.on_cancel(frame)

    def _settle(self, frame: Settling) -> None:
        self._tracing.settle(frame)
        self._meters.settle(frame)

    def cancel(self) -> None:
        """Cancel the calls that have no answer and that an interruption is to cancel.

        The function that asks for the interruption, if one does, runs on.
        """
        self._cancel(self._runs.interruptible - {self._runs.calling})

    def on_turn_started(self) -> None:
        """Note which functions run that the user's turn may be to cancel."""
        self._before_turn = self._runs.interruptible

    def cancel_before_turn(self) -> None:
        """Cancel the functions that ran when the user's last turn began, and none since."""
        self._cancel(self._before_turn)

    def put_at_stake(self) -> None:
        """Mark the calls that have no answer now: a turn that proves real cancels them."""
        self._at_stake |= self._runs.interruptible

    def on_turn_confirmed(self) -> None:
        """Cancel the functions that the user's turn has interrupted: it is real."""
        at_stake, self._at_stake = self._at_stake, set()
        self._cancel(at_stake)

    def on_turn_discarded(self) -> None:
        """Let the functions run on that the user's turn has interrupted: it was noise."""
        self._at_stake.clear()

    def _cancel(self, call_ids: Collection[str]) -> None:
        """Cancel the functions of these calls, in the background.

        Each gets time to clean up, one after the other. The user has to be heard meanwhile,
        and functions that are called meanwhile must not be cancelled.
        """
        if call_ids:
            self._service.create_task(self._runs.cancel(call_ids), "interruption")

    def close(self) -> None:
        """Stop answering calls."""
        self._runs.close()
        self._answers.close()

    def _answer(self, call_id: str, output: str, respond: bool, cancelled: bool) -> None:
        self._tracing.hold(call_id)
        # The function itself may have switched to another service.
        respond = respond and not self._surroundings.is_switched_away
        self._connection.perform(
            self._conversation.answer_call(
                call_id, output, self._connection.now, respond=respond, cancelled=cancelled
            )
        )
        if respond:
            # The session of the call may be gone, with none open since.
            self._session.open()
