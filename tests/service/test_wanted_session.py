"""Which session there is to be: in use, outdated, and the reply that is owed by the next."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from pipecat.services.llm_service import LLMService
from pydantic import SecretStr
from support import wire
from support.driver import PCM, sent

from pipecat_hydra import HydraLLMSettings
from pipecat_hydra.conversation.conversation import Conversation
from pipecat_hydra.conversation.effects import Effect, Ready
from pipecat_hydra.service.adapter import HydraLLMAdapter
from pipecat_hydra.service.briefing.briefing import Briefing
from pipecat_hydra.service.briefing.budget import SessionBudget
from pipecat_hydra.service.dialer import Dialer
from pipecat_hydra.service.in_force import InForce
from pipecat_hydra.service.settings import complete_settings
from pipecat_hydra.service.tracing import Tracing
from pipecat_hydra.service.wanted_session import WantedSession
from pipecat_hydra.session.endpoint import Endpoint
from pipecat_hydra.session.keys import Keyring
from pipecat_hydra.wire.codec import encode
from pipecat_hydra.wire.events import (
    ItemCreate,
    ServerEvent,
    SessionConfiguration,
    SessionConfigured,
    SessionCreated,
    SessionInfo,
)

SESSION_CONFIGURE = "session.configure"


class Service(LLMService[HydraLLMAdapter]):
    """A service that runs no pipeline."""

    adapter_class = HydraLLMAdapter
    pipeline_worker: Any = SimpleNamespace(_cancelled=False)

    def create_task(
        self, coroutine: Any, name: Any = None, context: Any = None
    ) -> asyncio.Task[Any]:
        return asyncio.create_task(coroutine)

    async def cancel_task(self, task: asyncio.Task[Any], *args: Any, **kwargs: Any) -> None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Connection:
    """A connection that is open when it is told to be, with a server that sets sessions up."""

    def __init__(self, conversation: Conversation):
        self.done: list[Any] = []
        self.is_connected = self.is_open = self.is_wanted = self.is_lost = False
        self.opened = self.replaced = 0
        self.accepts = True
        self.on_handshake: Any = None
        self._conversation = conversation

    @property
    def now(self) -> float:
        return asyncio.get_running_loop().time()

    @property
    def is_in_use(self) -> bool:
        return self.is_open and self.is_wanted

    def perform(self, effects: Sequence[Effect]) -> None:
        for event in sent(effects):
            self.done.append(event)
            if event.type == SESSION_CONFIGURE and self.accepts:
                self.receive(wire.configured())

    def open(self) -> None:
        self.is_open = self.is_wanted = True
        self.opened += 1

    def connect(self) -> None:
        self.is_connected = True
        self.perform(self._conversation.connected(self.now))
        self.receive(wire.created())

    def lose(self) -> None:
        self.is_connected = False
        self.perform(self._conversation.disconnected(self.now))

    def receive(self, *events: ServerEvent) -> None:
        for event in events:
            if isinstance(event, SessionCreated | SessionConfigured):
                self.on_handshake()
            self.perform(self._conversation.receive(event, self.now))

    async def replace(self) -> None:
        self.replaced += 1
        self.lose()
        await asyncio.sleep(0.01)
        self.connect()


class Bench:
    """A session with a connection to no server: what the server says is told by `receive`."""

    def __init__(self, **settings: Any):
        self.settings = complete_settings(HydraLLMSettings(voice="aria", **settings))
        self.service = Service(settings=self.settings)
        self.conversation = Conversation(model="hydra-v1.1")
        self.connection = Connection(self.conversation)
        self.replies_known = True
        keyring, tracing = Keyring("key"), Tracing()
        endpoint = Endpoint("ws://localhost", "hydra-v1.1", SecretStr("none yet"))
        self.dialer = Dialer(endpoint, keyring, self.settings, tracing, open_timeout_secs=1.0)
        adapter = HydraLLMAdapter()
        self.budget = SessionBudget(16_000)
        self.briefing = Briefing("service", adapter, "instructions", self.budget)
        alone: Any = SimpleNamespace(context=None)
        connection: Any = self.connection
        self.session = WantedSession(
            self.service,
            connection,
            self.conversation,
            settings=self.settings,
            dialer=self.dialer,
            briefing=self.briefing,
            budget=self.budget,
            in_force=InForce(adapter, alone, None),
            tracing=tracing,
            are_replies_known=lambda: self.replies_known,
            kickoff_timeout_secs=1.0,
        )
        self.connection.on_handshake = self.session.on_handshake

    @property
    def configured(self) -> list[SessionConfiguration]:
        """What sessions were configured with, in order."""
        return [event.session for event in self.connection.done if event.type == SESSION_CONFIGURE]

    @property
    def greeted(self) -> list[bool | None]:
        """Whether the model was to speak first, session by session."""
        return [configuration.generate_initial_response for configuration in self.configured]

    @property
    def requests(self) -> int:
        return [event.type for event in self.connection.done].count("response.create")

    def hear_reply(self) -> None:
        """Have the model say something, without end."""
        self.connection.receive(wire.response_created(), wire.audio(PCM))

    def end_reply(self) -> None:
        self.connection.receive(wire.audio_done(), wire.done())

    async def until_replaced(self) -> None:
        """Wait until the session that is outdated is replaced by another."""
        await asyncio.sleep(0.2)

    def used(self) -> "Bench":
        """Have a session under way, which nobody asked to speak."""
        self.connection.connect()
        self.settings.generate_initial_response = False
        self.session.on_user_audio()
        assert len(self.configured) == 1
        return self


class TestInUse:
    async def test_a_socket_that_nobody_uses_is_not_configured(self):
        bench = Bench()
        bench.connection.connect()
        assert not bench.session.begun
        assert bench.configured == []

    async def test_the_user_s_audio_waits_for_somebody_to_ask_for_a_greeting(self):
        bench = Bench()
        bench.connection.connect()
        bench.session.on_user_audio()
        await asyncio.sleep(0.9)
        bench.session.on_user_audio()
        assert bench.configured == []
        await asyncio.sleep(0.2)
        (told,) = bench.configured
        assert told.generate_initial_response is False

    async def test_once_the_user_speaks_nobody_waits_for_a_greeting(self):
        bench = Bench()
        bench.connection.connect()
        loud = bytes([0, 16, 0, 240]) * 160
        for n in range(5):
            assert bench.configured == []
            bench.conversation.hear(loud, n * 0.02)
            bench.session.on_user_audio()
        (told,) = bench.configured
        assert told.generate_initial_response is False

    async def test_who_asks_meanwhile_has_a_greeting(self):
        bench = Bench()
        bench.connection.connect()
        bench.session.on_user_audio()
        bench.session.run()
        (told,) = bench.configured
        assert told.generate_initial_response is True
        await asyncio.sleep(1.2)
        assert len(bench.configured) == 1

    @pytest.mark.parametrize("speaks_first", [True, False])
    async def test_settings_that_say_who_speaks_first_are_not_waited_for(self, speaks_first: bool):
        bench = Bench(generate_initial_response=speaks_first)
        bench.connection.connect()
        bench.session.on_user_audio()
        (told,) = bench.configured
        assert told.generate_initial_response is speaks_first

    async def test_settings_that_say_the_user_speaks_first_win_over_a_run(self):
        bench = Bench(generate_initial_response=False)
        bench.connection.connect()
        bench.session.run()
        assert bench.requests == 0
        bench.session.on_somebody_heard()
        bench.session.run()
        assert bench.requests == 1

    async def test_each_socket_that_opens_is_configured_once_it_is_in_use(self):
        bench = Bench()
        bench.session.ask()
        assert bench.configured == []
        bench.connection.connect()
        bench.hear_reply()
        bench.connection.lose()
        bench.connection.connect()
        assert bench.greeted == [True, False]

    async def test_a_service_that_is_not_usable_opens_nothing(self):
        bench = Bench()
        await bench.service.set_usable(False)
        bench.session.open()
        bench.session.ask()
        assert bench.connection.opened == 0

    async def test_audio_opens_a_session_that_rests(self):
        bench = Bench().used()
        bench.connection.is_open = False
        opened = bench.connection.opened
        bench.session.on_user_audio()
        bench.session.on_user_audio()
        assert bench.connection.opened == opened + 1

    async def test_a_session_that_is_still_to_begin_is_told_no_text(self):
        bench = Bench()
        bench.connection.connect()
        bench.session.tell("Hello.", "user")
        assert bench.connection.done == []
        bench.used().session.tell("Hello.", "user")
        assert encode(bench.connection.done[-1]) == encode(
            ItemCreate.message("Hello.", role="user", event_id="evt_2")
        )

    async def test_text_that_is_still_kept_is_told_once_the_session_is_configured(self):
        bench = Bench()
        bench.session.ask()
        bench.connection.accepts = False
        bench.connection.connect()
        for text in ("My PIN is 1234.", "I am Ada."):
            bench.session.tell(text, "user")
        bench.briefing.note("user", "I am Ada.")
        bench.connection.receive(wire.configured())
        told = [e for e in bench.connection.done if isinstance(e, ItemCreate)]
        assert ["I am Ada." in encode(event).decode() for event in told] == [True]

    async def test_closing_stops_what_waits(self):
        bench = Bench()
        bench.connection.connect()
        bench.session.on_user_audio()
        await bench.session.close()
        await asyncio.sleep(1.2)
        assert bench.configured == []


class TestWhatItKnows:
    READY = Ready(SessionInfo(), 24_000)

    async def test_all(self):
        assert Bench().used().session.is_restored(self.READY)

    async def test_not_audio_that_was_too_much_to_keep(self):
        assert not Bench().used().session.is_restored(replace(self.READY, lost_secs=0.1))

    async def test_not_what_no_transcript_gives(self):
        bench = Bench().used()
        bench.connection.receive(wire.started(), wire.stopped())
        bench.hear_reply()
        bench.connection.lose()
        bench.connection.connect()
        assert not bench.session.is_restored(self.READY)

    async def test_not_replies_without_words(self):
        bench = Bench()
        bench.replies_known = False
        assert not bench.used().session.is_restored(self.READY)


class TestOutdated:
    async def test_changes_that_come_together_cost_one_session(self):
        bench = Bench().used()
        bench.settings.voice = "sterling"
        bench.session.replace_if_outdated()
        bench.settings.system_instruction = "Be brief."
        bench.session.replace_if_outdated()
        await bench.until_replaced()
        assert bench.connection.replaced == 1
        assert bench.configured[-1].voice == "sterling"

    async def test_nothing_is_cut(self):
        bench = Bench().used()
        bench.hear_reply()
        bench.settings.voice = "sterling"
        bench.session.replace_if_outdated()
        await bench.until_replaced()
        assert bench.connection.replaced == 0
        bench.end_reply()
        await bench.until_replaced()
        assert bench.connection.replaced == 1

    async def test_audio_that_comes_after_the_end_of_its_response_is_waited_for(self):
        bench = Bench().used()
        bench.hear_reply()
        bench.settings.voice = "sterling"
        bench.session.replace_if_outdated()
        bench.connection.receive(wire.done())
        await bench.until_replaced()
        assert bench.connection.replaced == 0
        await asyncio.sleep(1.0)
        assert bench.connection.replaced == 1

    async def test_closing_ends_it(self):
        bench = Bench().used()
        bench.settings.voice = "sterling"
        bench.session.replace_if_outdated()
        bench.session.replace_if_outdated()
        await asyncio.sleep(0)
        await bench.session.close()
        await bench.until_replaced()
        assert bench.connection.replaced == 0

    async def test_what_is_changed_back_costs_none(self):
        bench = Bench().used()
        bench.settings.voice = "sterling"
        bench.session.replace_if_outdated()
        bench.settings.voice = "aria"
        await bench.until_replaced()
        assert bench.connection.replaced == 0

    async def test_another_model_before_anything_was_told(self):
        bench = Bench()
        bench.connection.connect()
        bench.settings.model = "hydra-v2"
        bench.session.ask()
        assert bench.configured == []
        await asyncio.sleep(0.08)
        assert bench.connection.replaced == 1
        await bench.session.close()

    async def test_a_session_that_missed_some_of_the_call(self):
        bench = Bench().used()
        bench.session.renew_session()
        await bench.until_replaced()
        assert bench.connection.replaced == 1
        assert len(bench.configured) == 2

    async def test_a_reset_forgets_text_that_no_session_was_told_yet(self):
        bench = Bench().used()
        bench.connection.lose()
        # The next socket is open, and its session is not live yet.
        bench.connection.is_connected = True
        bench.session.tell("My PIN is 1234.", "user")
        bench.session.reset_conversation()
        bench.connection.connect()
        await bench.until_replaced()
        assert bench.configured[-1].instructions is None
        assert not any(event.type == "conversation.item.create" for event in bench.connection.done)

    async def test_a_reset_or_a_renewal_of_nothing_costs_no_session(self):
        bench = Bench()
        bench.connection.connect()
        bench.session.reset_conversation()
        bench.session.renew_session()
        await bench.until_replaced()
        assert bench.connection.replaced == 0
        bench.used()
        await bench.until_replaced()
        assert bench.connection.replaced == 0

    async def test_a_session_that_was_told_enough(self):
        bench = Bench().used()
        bench.session.on_sent(ItemCreate.message("x" * 15_000))
        await bench.until_replaced()
        assert bench.connection.replaced == 1

    async def test_the_settings_do_not_say_who_a_session_is(self):
        bench = Bench().used()
        bench.settings.generate_initial_response = True
        bench.session.replace_if_outdated()
        await bench.until_replaced()
        assert bench.connection.replaced == 0


class TestOwed:
    async def test_a_greeting_is_owed_from_the_first(self):
        bench = Bench()
        assert not bench.conversation.reply_pending
        bench.session.ask()
        assert bench.conversation.reply_pending
        bench.connection.connect()
        assert bench.greeted == [True]
        bench.hear_reply()
        bench.end_reply()
        assert not bench.conversation.reply_pending

    async def test_what_is_asked_of_an_outdated_session_the_next_one_owes(self):
        bench = Bench().used()
        bench.settings.voice = "sterling"
        bench.session.ask()
        assert bench.requests == 0
        assert bench.conversation.reply_pending
        await bench.until_replaced()
        assert bench.greeted == [False, True]

    async def test_the_answer_to_the_user_comes_in_its_place(self):
        bench = Bench().used()
        bench.connection.receive(wire.started())
        bench.settings.voice = "sterling"
        bench.session.ask()
        bench.connection.receive(wire.stopped())
        bench.hear_reply()
        bench.end_reply()
        assert not bench.conversation.reply_pending
        await bench.until_replaced()
        assert bench.connection.replaced == 1
        assert bench.greeted == [False, False]
        assert bench.requests == 0

    async def test_a_session_that_follows_a_loss_owes_it_too(self):
        bench = Bench().used()
        bench.hear_reply()
        bench.settings.voice = "sterling"
        bench.session.ask()
        bench.connection.lose()
        bench.connection.connect()
        assert bench.greeted == [False, True]
        await bench.until_replaced()
        assert bench.connection.replaced == 0
        assert bench.requests == 0

    async def test_a_turn_that_is_over_does_not_answer_what_is_asked_after_it(self):
        bench = Bench().used()
        bench.connection.receive(wire.started(), wire.stopped())
        bench.settings.voice = "sterling"
        bench.session.ask()
        bench.hear_reply()
        bench.end_reply()
        assert bench.conversation.reply_pending
        await bench.until_replaced()
        assert bench.greeted == [False, True]

    async def test_what_is_owed_is_given_by_the_same_session_if_it_is_as_wanted_again(self):
        bench = Bench().used()
        bench.settings.voice = "sterling"
        bench.session.ask()
        bench.settings.voice = "aria"
        await bench.until_replaced()
        assert bench.connection.replaced == 0
        assert bench.requests == 1
