"""What the service sees of the pipeline around it, and that Pipecat still is as it relies on."""

from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcher
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies

from pipecat_hydra.service.pipeline import (
    has_turn_strategies,
    is_active,
    shared_context,
    switchers_around,
)

HINT = "Pipecat has moved what pipecat_hydra relies on"


def pair(context: LLMContext) -> LLMContextAggregatorPair:
    params = LLMUserAggregatorParams(user_turn_strategies=ExternalUserTurnStrategies())
    return LLMContextAggregatorPair(context, user_params=params)


def test_a_user_aggregator_is_found_at_any_depth():
    context = LLMContext()
    user = pair(context).user()
    pipeline = Pipeline([IdentityFilter(), Pipeline([user]), IdentityFilter()])
    assert has_turn_strategies(pipeline)
    assert shared_context(pipeline) is context


def test_a_user_aggregator_is_found_in_a_branch():
    context = LLMContext()
    pipeline = Pipeline([ParallelPipeline([pair(context).user()], [IdentityFilter()])])
    assert has_turn_strategies(pipeline)
    assert shared_context(pipeline) is context


def test_a_turn_processor_is_found():
    turns = UserTurnProcessor(user_turn_strategies=ExternalUserTurnStrategies())
    pipeline = Pipeline([turns])
    assert has_turn_strategies(pipeline)
    assert shared_context(pipeline) is None


def test_a_bare_pipeline_has_neither():
    pipeline = Pipeline([IdentityFilter()])
    assert not has_turn_strategies(pipeline)
    assert shared_context(pipeline) is None


def test_of_two_contexts_neither_is_taken():
    first, second = pair(LLMContext()), pair(LLMContext())
    assert shared_context(Pipeline([first.user(), second.user()])) is None


def test_a_context_that_two_aggregators_have_is_taken():
    context = LLMContext()
    branches = ParallelPipeline([pair(context).user()], [pair(context).user()])
    assert shared_context(Pipeline([branches])) is context


def test_a_switcher_gives_its_work_to_one_service_or_to_what_holds_it():
    first, second, outside = LLMService(), LLMService(), LLMService()
    switcher = ServiceSwitcher([first, Pipeline([IdentityFilter(), second])])
    pipeline = Pipeline([IdentityFilter(), switcher, outside])
    assert switchers_around(pipeline, first) == switchers_around(pipeline, second) == [switcher]
    assert switchers_around(pipeline, outside) == []
    assert is_active(switcher, first)
    assert not is_active(switcher, second)


def test_the_private_names_of_pipecat_that_are_used_are_still_there():
    assert hasattr(LLMService, "_handle_interruptions"), HINT
    assert hasattr(LLMService, "_cancel_function_call_tasks"), HINT
    assert hasattr(LLMService(), "_base_system_instruction"), HINT
    for processor in (pair(LLMContext()).user(), UserTurnProcessor()):
        assert hasattr(processor, "_user_idle_controller"), HINT
    assert hasattr(LLMService, "_sync_registered_tool_handlers"), HINT
    assert hasattr(LLMService, "_service_tools"), HINT
    assert hasattr(FrameProcessor, "processors"), HINT
