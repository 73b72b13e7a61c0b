"""Only what stands on the service's own path concerns it (T5)."""

from collections.abc import AsyncGenerator
from types import SimpleNamespace
from typing import Any

from pipecat.frames.frames import Frame, ManuallySwitchServiceFrame, SystemFrame, TextFrame
from pipecat.pipeline.parallel_pipeline import ParallelPipeline
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.service_switcher import ServiceSwitcher
from pipecat.pipeline.sync_parallel_pipeline import SyncParallelPipeline
from pipecat.pipeline.worker import PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.processors.filters.identity_filter import IdentityFilter
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.services.llm_service import LLMService
from pipecat.services.settings import STTSettings, TTSSettings
from pipecat.services.stt_service import STTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_output import BaseOutputTransport
from pipecat.transports.base_transport import TransportParams
from pipecat.turns.user_turn_processor import UserTurnProcessor
from pipecat.turns.user_turn_strategies import ExternalUserTurnStrategies, UserTurnStrategies
from pipecat.workers.llm import LLMWorker
from typing_extensions import override

from pipecat_hydra.service.surroundings import Surroundings
from pipecat_hydra.testing import VirtualTransport


class Service(LLMService[Any]):
    """A service that a test places in a pipeline."""

    placed_in: FrameProcessor
    reached_downstream_types: tuple[type[Frame], ...] = ()

    @property
    @override
    def pipeline_worker(self) -> Any:
        return SimpleNamespace(
            pipeline=self.placed_in, reached_downstream_types=self.reached_downstream_types
        )


class Idle:
    """An idle controller that counts how often its timer began again."""

    def __init__(self):
        self.restarted = 0

    async def wait_for_user(self) -> None:
        self.restarted += 1


def around(service: Service, pipeline: FrameProcessor) -> Surroundings:
    service.placed_in = pipeline
    return Surroundings(service)


def pair(
    context: LLMContext | None = None, strategies: UserTurnStrategies | None = None
) -> LLMContextAggregatorPair:
    params = LLMUserAggregatorParams(
        user_turn_strategies=strategies or ExternalUserTurnStrategies()
    )
    return LLMContextAggregatorPair(context or LLMContext(), user_params=params)


def nothing_concerns(found: Surroundings) -> bool:
    return found.context is None and not found.decides_turns and not found.is_below_aggregator


class TestAPath:
    """What is on it is the service's own."""

    def test_an_aggregator_above(self):
        context, llm = LLMContext(), Service()
        own = pair(context)
        found = around(llm, Pipeline([own.user(), IdentityFilter(), llm, own.assistant()]))
        assert found.context is context
        assert found.decides_turns
        assert found.is_below_aggregator
        assert not found.is_foreign(context)

    def test_nothing(self):
        llm = Service()
        assert nothing_concerns(around(llm, Pipeline([IdentityFilter(), llm, IdentityFilter()])))

    def test_the_nearest_output_transport_below_it_plays_what_it_says(self):
        llm = Service()
        above, below, last = (VirtualTransport().output() for _ in range(3))
        found = around(llm, Pipeline([above, Pipeline([IdentityFilter(), llm]), below, last]))
        assert found.output is below
        assert around(llm, Pipeline([above, llm])).output is None

    def test_a_turn_processor_decides_and_has_no_context(self):
        llm = Service()
        turns = UserTurnProcessor(user_turn_strategies=ExternalUserTurnStrategies())
        found = around(llm, Pipeline([turns, llm]))
        assert found.decides_turns
        assert found.context is None
        assert not found.is_below_aggregator

    def test_an_aggregator_below_decides_but_no_frame_that_goes_up_comes_there(self):
        context, llm = LLMContext(), Service()
        own = pair(context)
        found = around(llm, Pipeline([llm, IdentityFilter(), own.user(), own.assistant()]))
        assert found.context is context
        assert found.decides_turns
        assert not found.is_below_aggregator

    def test_an_aggregator_in_a_pipeline_before_it(self):
        context, llm = LLMContext(), Service()
        found = around(llm, Pipeline([Pipeline([pair(context).user()]), llm]))
        assert found.context is context
        assert found.is_below_aggregator

    def test_an_aggregator_before_the_pipeline_it_is_in(self):
        context, llm = LLMContext(), Service()
        inner = Pipeline([IdentityFilter(), Pipeline([llm])])
        assert around(llm, Pipeline([pair(context).user(), inner])).context is context

    def test_of_several_aggregators_the_nearest(self):
        far, near, below, llm = LLMContext(), LLMContext(), LLMContext(), Service()
        above = Pipeline([pair(far).user(), pair(near).user()])
        pipeline = Pipeline([pair(far).user(), above, llm, pair(below).user()])
        assert around(llm, pipeline).context is near

    def test_an_aggregator_in_a_branch_of_what_stands_before_it(self):
        context, llm = LLMContext(), Service()
        before = ParallelPipeline([pair(context).user()], [IdentityFilter()])
        assert around(llm, Pipeline([before, llm])).context is context

    def test_a_context_is_read_each_time(self):
        llm, own = Service(), pair()
        found = around(llm, Pipeline([own.user(), llm]))
        assert found.context is own.user().context
        own.user()._context = LLMContext()
        assert found.context is own.user().context

    def test_a_service_that_its_worker_does_not_show_has_no_surroundings(self):
        own = pair()
        found = around(Service(), Pipeline([own.user(), IdentityFilter()]))
        assert nothing_concerns(found)
        assert not found.is_foreign(own.user().context)
        assert not found.is_switched_away


class TestBranches:
    """A processor before or after them is on the path, one in a branch beside is not."""

    def test_an_aggregator_before_the_branches(self):
        context, llm = LLMContext(), Service()
        found = around(
            llm, Pipeline([pair(context).user(), ParallelPipeline([IdentityFilter()], [llm])])
        )
        assert found.context is context
        assert found.is_below_aggregator

    def test_an_aggregator_after_the_branches(self):
        context, llm = LLMContext(), Service()
        found = around(
            llm, Pipeline([ParallelPipeline([IdentityFilter()], [llm]), pair(context).user()])
        )
        assert found.context is context

    def test_an_aggregator_in_its_own_branch(self):
        own, llm = LLMContext(), Service()
        beside = pair()
        branches = ParallelPipeline(
            [beside.user(), Service(), beside.assistant()], [pair(own).user(), llm]
        )
        found = around(llm, Pipeline([branches]))
        assert found.context is own
        assert found.is_foreign(beside.user().context)

    def test_an_aggregator_in_a_branch_beside(self):
        beside, llm = pair(), Service()
        branches = ParallelPipeline([beside.user(), beside.assistant()], [llm])
        found = around(llm, Pipeline([IdentityFilter(), branches]))
        assert nothing_concerns(found)
        assert found.is_foreign(beside.user().context)

    def test_a_branch_beside_that_is_synchronised(self):
        beside, llm = pair(), Service()
        branches = SyncParallelPipeline([beside.user(), beside.assistant()], [llm])
        assert nothing_concerns(around(llm, Pipeline([branches])))

    def test_two_services_each_have_the_aggregator_of_their_branch(self):
        first, second = LLMContext(), LLMContext()
        one, other = Service(), Service()
        pipeline = Pipeline(
            [ParallelPipeline([pair(first).user(), one], [pair(second).user(), other])]
        )
        assert around(one, pipeline).context is first
        assert around(other, pipeline).context is second

    def test_two_services_share_the_aggregator_before_the_branches(self):
        context, one, other = LLMContext(), Service(), Service()
        pipeline = Pipeline([pair(context).user(), ParallelPipeline([one], [other])])
        assert around(one, pipeline).context is context
        assert around(other, pipeline).context is context

    def test_a_context_that_two_aggregators_have_is_not_foreign(self):
        context, llm = LLMContext(), Service()
        branches = ParallelPipeline([pair(context).user()], [pair(context).user(), llm])
        assert not around(llm, Pipeline([branches])).is_foreign(context)

    def test_a_context_of_no_aggregator_is_not_foreign(self):
        llm = Service()
        branches = ParallelPipeline([pair().user()], [llm])
        assert not around(llm, Pipeline([branches])).is_foreign(LLMContext())


class TestAnotherLLM:
    """An aggregator belongs to the LLM that its context frames come to first."""

    def test_that_stands_between(self):
        notes, llm = pair(), Service()
        pipeline = Pipeline([notes.user(), Service(), notes.assistant(), llm])
        found = around(llm, pipeline)
        assert nothing_concerns(found)
        assert found.is_foreign(notes.user().context)

    def test_that_stands_between_with_its_aggregator_in_a_branch(self):
        notes, own, llm = pair(), LLMContext(), Service()
        before = ParallelPipeline([notes.user(), Service(), notes.assistant()], [IdentityFilter()])
        assert nothing_concerns(around(llm, Pipeline([before, llm])))
        # A way past it leads to what stands before the branches.
        assert around(llm, Pipeline([pair(own).user(), before, llm])).context is own

    def test_in_each_branch_between(self):
        llm = Service()
        between = ParallelPipeline([Service()], [Pipeline([Service()])])
        assert nothing_concerns(around(llm, Pipeline([pair().user(), between, llm])))

    def test_that_stands_below_with_its_aggregators(self):
        notes, llm = pair(), Service()
        pipeline = Pipeline([llm, IdentityFilter(), notes.user(), Service(), notes.assistant()])
        assert nothing_concerns(around(llm, pipeline))


class TestSwitchers:
    def test_a_switcher_gives_its_work_to_one_service_or_to_what_holds_it(self):
        first, second, outside = Service(), Service(), Service()
        switcher = ServiceSwitcher([first, Pipeline([IdentityFilter(), second])])
        pipeline = Pipeline([IdentityFilter(), switcher, outside])
        assert not around(first, pipeline).is_switched_away
        assert around(second, pipeline).is_switched_away
        assert not around(outside, pipeline).is_switched_away

    async def test_which_service_is_active_is_read_each_time(self):
        first, second = Service(), Service()
        switcher = ServiceSwitcher([first, second])
        found = around(first, Pipeline([switcher]))
        assert not found.is_switched_away
        switch = ManuallySwitchServiceFrame(service=second)
        await switcher.strategy.handle_frame(switch, FrameDirection.DOWNSTREAM)
        assert found.is_switched_away

    def test_a_switcher_in_a_branch(self):
        own, beside = pair(), pair()
        active, passive, other = Service(), Service(), Service()
        branches = ParallelPipeline(
            [own.user(), ServiceSwitcher([active, passive])],
            [beside.user(), ServiceSwitcher([other])],
        )
        pipeline = Pipeline([branches])
        for service in (active, passive):
            found = around(service, pipeline)
            assert found.context is own.user().context
            assert found.is_below_aggregator
        assert around(passive, pipeline).is_switched_away
        assert not around(active, pipeline).is_switched_away
        assert around(other, pipeline).context is beside.user().context

    def test_an_aggregator_above_a_switcher_belongs_to_all_its_services(self):
        own, llm = pair(), Service()
        switcher = ServiceSwitcher([Service(), llm])
        assert around(llm, Pipeline([own.user(), switcher])).context is own.user().context


class TestStrategies:
    def test_those_that_resolve_proposals(self):
        llm, own = Service(), pair()
        assert not around(llm, Pipeline([own.user(), llm])).ignores_proposals

    def test_those_that_do_not(self):
        llm, own = Service(), pair(strategies=UserTurnStrategies(start=[], stop=[]))
        found = around(llm, Pipeline([own.user(), llm]))
        assert found.ignores_proposals
        assert found.decides_turns

    def test_those_that_are_adopted_later_count(self):
        llm, own = Service(), pair(strategies=UserTurnStrategies(start=[], stop=[]))
        found = around(llm, Pipeline([own.user(), llm]))
        assert found.ignores_proposals
        own.user()._user_turn_controller._user_turn_strategies = ExternalUserTurnStrategies()
        assert not found.ignores_proposals

    def test_where_nothing_decides_something_out_of_sight_may_resolve_them(self):
        llm = Service()
        assert not around(llm, Pipeline([llm])).ignores_proposals

    async def test_idle_timers_begin_again_on_the_path_alone(self):
        llm, own, beside = Service(), pair(), pair()
        turns = UserTurnProcessor(user_turn_strategies=ExternalUserTurnStrategies())
        for decider in (turns, own.user(), beside.user()):
            decider._user_idle_controller = Idle()  # pyright: ignore[reportAttributeAccessIssue]
        branches = ParallelPipeline([beside.user()], [own.user(), llm])
        await around(llm, Pipeline([turns, branches])).wait_for_user()
        restarted = [one._user_idle_controller.restarted for one in (turns, own.user())]  # pyright: ignore[reportAttributeAccessIssue]
        assert restarted == [1, 1]
        assert beside.user()._user_idle_controller.restarted == 0  # pyright: ignore[reportAttributeAccessIssue]


class TestWorkers:
    def test_the_aggregator_of_the_worker_it_is_bridged_to_is_out_of_sight(self):
        llm = Service()
        worker = LLMWorker("agent", llm=llm, bridged=())
        assert nothing_concerns(around(llm, worker.pipeline))

    def test_an_aggregator_of_its_own_worker_is_on_its_path_though_that_is_bridged(self):
        llm, own = Service(), pair()
        pipeline = Pipeline([own.user(), llm, own.assistant()])
        worker = LLMWorker("agent", llm=llm, pipeline=pipeline, bridged=())
        assert around(llm, worker.pipeline).context is own.user().context

    def test_a_worker_puts_the_application_s_pipeline_into_its_own(self):
        llm, own = Service(), pair()
        worker = PipelineWorker(Pipeline([own.user(), llm]), idle_timeout_secs=None)
        assert around(llm, worker.pipeline).context is own.user().context


class Voice(TTSService):
    """A TTS service that a test places in a pipeline."""

    def __init__(self):
        super().__init__(settings=TTSSettings(model=None, voice=None, language=None))

    @override
    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame | None]:
        yield None


class Transcriber(STTService):
    """An STT service that a test places in a pipeline."""

    def __init__(self):
        super().__init__(settings=STTSettings(model=None, language=None))

    @override
    async def run_stt(self, audio: bytes) -> AsyncGenerator[Frame | None]:
        yield None


class TestAnSTT:
    """Above the service it gives the words of the user."""

    def test_above(self):
        llm = Service()
        assert around(llm, Pipeline([Transcriber(), pair().user(), llm])).has_transcriber

    def test_elsewhere(self):
        llm = Service()
        assert not around(llm, Pipeline([llm, Transcriber()])).has_transcriber
        branches = ParallelPipeline([llm], [Transcriber()])
        assert not around(llm, Pipeline([branches])).has_transcriber


class TestATTS:
    """It speaks the phrases that go to it."""

    DOWN, UP = FrameDirection.DOWNSTREAM, FrameDirection.UPSTREAM

    def test_above_it_speaks_what_goes_up(self):
        llm = Service()
        found = around(llm, Pipeline([Voice(), llm]))
        assert (found.has_tts_ahead(self.UP), found.has_tts_ahead(self.DOWN)) == (True, False)
        assert not found.is_before_tts

    def test_below_it_speaks_what_goes_down_and_gets_all_text(self):
        llm = Service()
        found = around(llm, Pipeline([Pipeline([llm]), ServiceSwitcher([Voice(), Voice()])]))
        assert (found.has_tts_ahead(self.UP), found.has_tts_ahead(self.DOWN)) == (False, True)
        assert found.is_before_tts

    def test_in_a_branch_beside_it_speaks_phrases_and_gets_no_text(self):
        llm = Service()
        found = around(llm, Pipeline([ParallelPipeline([llm], [Service(), Voice()])]))
        assert found.has_tts_ahead(self.DOWN)
        assert not found.is_before_tts

    def test_in_the_other_branch_of_a_switcher_it_gets_nothing(self):
        llm = Service()
        found = around(llm, Pipeline([ServiceSwitcher([llm, Pipeline([Service(), Voice()])])]))
        assert not found.has_tts_ahead(self.DOWN)
        assert not found.is_before_tts


class TestUserAudio:
    """Who may use the user's audio that the service passes on."""

    def test_pipecat_s_own_transports_and_aggregators_do_not(self):
        llm, (user, assistant) = Service(), pair()
        output = BaseOutputTransport(TransportParams())
        found = around(llm, Pipeline([user, llm, output, assistant]))
        assert not found.may_user_audio_be_wanted

    def test_nor_do_those_above_the_service(self):
        llm, output = Service(), BaseOutputTransport(TransportParams())
        assert not around(llm, Pipeline([IdentityFilter(), llm, output])).may_user_audio_be_wanted

    def test_any_other_processor_may(self):
        llm, output = Service(), BaseOutputTransport(TransportParams())
        for pipeline in (
            Pipeline([llm, output, IdentityFilter()]),
            Pipeline([llm, Pipeline([IdentityFilter()]), output]),
            Pipeline([llm, VirtualTransport().output()]),
        ):
            assert around(llm, pipeline).may_user_audio_be_wanted

    def test_a_way_that_branches_may_lead_to_somebody(self):
        llm, output = Service(), BaseOutputTransport(TransportParams())
        branches = ParallelPipeline([llm], [IdentityFilter()])
        assert around(llm, Pipeline([branches, output])).may_user_audio_be_wanted

    def test_an_application_may_watch_what_leaves_the_pipeline(self):
        llm, output = Service(), BaseOutputTransport(TransportParams())
        llm.reached_downstream_types = (TextFrame,)
        assert not around(llm, Pipeline([llm, output])).may_user_audio_be_wanted
        llm.reached_downstream_types = (TextFrame, SystemFrame)
        assert around(llm, Pipeline([llm, output])).may_user_audio_be_wanted

    def test_where_the_service_stands_may_be_hidden(self):
        assert around(Service(), Pipeline([IdentityFilter()])).may_user_audio_be_wanted
