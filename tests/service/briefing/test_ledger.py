"""What Hydra knows of a context, and what of it is new."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pipecat.processors.aggregators import async_tool_messages

from pipecat_hydra.service.briefing.entries import Entry, entry_of, one_line, text_entry
from pipecat_hydra.service.briefing.ledger import Ledger, NewText

NOTHING = NewText()


def user(text: str) -> Entry:
    return text_entry("user", text)


def bot(text: str) -> Entry:
    return text_entry("assistant", text)


def developer(text: str) -> Entry:
    return text_entry("developer", text)


def running(call_id: str) -> Entry:
    return entry_of({"role": "tool", "tool_call_id": call_id, "content": "IN_PROGRESS"})


def result(call_id: str, text: str) -> Entry:
    return entry_of({"role": "tool", "tool_call_id": call_id, "content": text})


def calling(call_id: str) -> Entry:
    function = {"name": "f", "arguments": "{}"}
    return entry_of({"role": "assistant", "tool_calls": [{"id": call_id, "function": function}]})


def news(ledger: Ledger, *entries: Entry) -> NewText:
    ledger.read(entries)
    return ledger.take()


def typed(*texts: str) -> NewText:
    return NewText(tuple(("user", text) for text in texts))


def session(*entries: Entry) -> Ledger:
    """A ledger of a session that was told a context when it began."""
    ledger = Ledger()
    ledger.read(entries)
    ledger.begin_session()
    return ledger


def texts(ledger: Ledger, *, hears_again: bool = False) -> list[str]:
    """What the next session is told."""
    return [one_line(entry.text) for entry in ledger.history(hears_again=hears_again)]


# What is new


def test_what_is_new_is_given_once():
    ledger = Ledger()
    entries = [user("hello")]
    assert news(ledger, *entries) == typed("hello")
    assert news(ledger, *entries) == NOTHING
    entries += [bot("hi"), user("hello")]
    assert news(ledger, *entries) == typed("hello")
    assert news(ledger, *entries) == NOTHING


def test_what_was_seen_and_not_asked_for_stays_new():
    ledger = session()
    ledger.read([user("one")])
    ledger.read([user("one"), user("two")])
    assert ledger.take() == typed("one", "two")


def test_what_is_taken_out_before_it_was_told_is_not_told():
    ledger = session(bot("hi"))
    ledger.read([bot("hi"), user("My PIN is 1234")])
    assert news(ledger, bot("hi"), user("My PIN is [redacted]")) == typed("My PIN is [redacted]")
    ledger.read([bot("hi"), user("My PIN is [redacted]"), user("never mind")])
    assert news(ledger, bot("hi"), user("My PIN is [redacted]")) == NOTHING


def test_a_text_before_one_that_is_yet_to_be_told_is_new_too():
    ledger = session(bot("hi"))
    ledger.read([bot("hi"), user("two")])
    assert news(ledger, bot("hi"), user("one"), user("two")) == typed("one", "two")


def test_what_was_spoken_is_not_typed():
    ledger = Ledger()
    ledger.hear(" hello ")
    assert news(ledger, user("hello")) == NewText(spoken=True)
    assert news(ledger, user("hello"), user("hello")) == typed("hello")


def test_what_is_in_the_context_before_it_is_known_to_be_spoken_is_not_typed():
    ledger = session(user("hello"))
    entries = [user("hello"), bot("hi"), user("hello")]
    ledger.read(entries)
    ledger.hear("hello")
    assert news(ledger, *entries) == NewText(spoken=True)
    assert news(ledger, *entries, user("hello")) == typed("hello")


def test_typed_and_spoken_together():
    ledger = Ledger()
    ledger.hear("aloud")
    assert news(ledger, user("typed"), user("aloud")) == NewText((("user", "typed"),), spoken=True)


def test_what_the_developer_says_is_text_of_the_system():
    new = news(Ledger(), developer("Ask whether they are there."))
    assert new.typed == (("system", "Ask whether they are there."),)


def test_the_bots_side_and_tools_are_not_typed():
    asynchronous = [
        async_tool_messages.build_started_message("d"),
        async_tool_messages.build_final_result_message("d", "done"),
    ]
    entries = [bot("hi"), calling("c"), result("c", "21"), *map(entry_of, asynchronous), user("")]
    assert news(Ledger(), *entries) == NOTHING


# What is on its way


def test_what_hydra_was_told_otherwise_is_not_new():
    ledger = Ledger()
    ledger.expect(user("hello"), lasting=False)
    assert news(ledger, user("hello")) == NOTHING
    assert news(ledger, user("hello"), user("hello")) == typed("hello")


def test_what_hydra_was_told_may_come_into_the_context_late():
    ledger = Ledger()
    for text in ("one", "two"):
        ledger.expect(user(text), lasting=False)
    assert news(ledger) == NOTHING
    assert news(ledger, user("one")) == NOTHING
    assert news(ledger, user("one"), user("two")) == NOTHING
    assert news(ledger, user("one"), user("two"), user("two")) == typed("two")


def test_what_was_lost_on_its_way_into_the_context_is_not_awaited():
    ledger = Ledger()
    for text in ("lost", "there"):
        ledger.expect(user(text), lasting=False)
    ledger.read([user("there")])
    ledger.interrupt()
    assert sorted(texts(ledger)) == ["lost", "there"]
    entries = [user("there"), user("lost")]
    assert news(ledger, *entries) == typed("lost")
    assert texts(ledger) == ["there", "lost"]
    assert news(ledger, *entries, user("there")) == typed("there")


def test_what_no_interruption_stops_on_its_way_into_the_context_is_awaited():
    ledger = Ledger()
    for text in ("one", "two"):
        ledger.expect(user(text), lasting=True)
    for text in ("lost", "two"):
        ledger.expect(user(text), lasting=False)
    ledger.read([user("one")])
    ledger.interrupt()
    entries = [user("one"), user("two"), user("lost")]
    assert news(ledger, *entries) == typed("lost")
    # It has come; and what is told from now on can be lost again.
    ledger.expect(user("two"), lasting=False)
    ledger.read(entries)
    ledger.interrupt()
    assert news(ledger, *entries, user("two")) == typed("two")


def test_what_comes_late_makes_no_history_of_what_was_typed_meanwhile():
    ledger = session(user("hello"))
    ledger.expect(developer("two"), lasting=False)
    entries = [user("hello"), user("typed"), developer("two"), bot("Well, I was")]
    assert news(ledger, *entries) == typed("typed")


def test_of_messages_that_say_the_same_the_newest_is_the_one_that_was_on_its_way():
    ledger = Ledger()
    ledger.expect(developer("Greet."), lasting=False)
    entries = [developer("Greet."), calling("c"), result("c", "21"), developer("Greet.")]
    new = news(ledger, *entries)
    assert new.typed == (("system", "Greet."),)
    # The reply to the newest is the reply to it.
    assert new.answered
    assert news(ledger, *entries) == NOTHING
    new = news(ledger, *entries, user("And now?"))
    assert new.typed == (("user", "And now?"),)
    assert not new.answered


# Results


def test_results_that_hydra_was_asked_to_speak_about_are_told_apart():
    ledger = Ledger()
    ledger.narrate("c")
    assert news(ledger, calling("c"), running("c")) == NOTHING
    entries = [calling("c"), result("c", "21")]
    assert news(ledger, *entries) == NewText(narrated=True)
    assert news(ledger, *entries) == NOTHING
    # Of others nobody said so.
    assert news(ledger, *entries, calling("d"), result("d", "22")) == NOTHING
    half = entry_of(async_tool_messages.build_intermediate_result_message("e", "half"))
    ledger.narrate("e")
    ledger.read([*entries, half])
    assert news(ledger, *entries, half) == NewText(narrated=True)
    assert news(ledger, *entries, half, result("e", "all")) == NOTHING
    # What has come is not what the application asks for later.
    ledger.narrate("d")
    assert news(ledger, *entries, half, result("e", "all")) == NOTHING


# A context that is rewritten


def test_a_context_that_was_replaced_gives_only_what_it_did_not_hold_before():
    ledger = session(user("one"), user("two"))
    assert news(ledger, user("two"), user("three")) == typed("three")
    new = news(ledger, user("one"))
    assert new.typed == (("user", "one"),)
    assert new.reset


CARD, REDACTED = user("My card is 4111 1111"), user("My card is [redacted]")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ([CARD, bot("Thanks.")], [REDACTED, bot("Thanks.")]),
        # Nothing was said since, or nothing whose words are known.
        ([bot("Your card?"), CARD], [bot("Your card?"), REDACTED]),
        ([CARD], [REDACTED]),
        ([CARD, user("It is blue.")], [REDACTED, user("It is ***.")]),
        ([CARD, user("It is blue.")], [REDACTED]),
        ([bot("Your card?"), CARD], [bot("Your card?"), user("[redacted]")]),
    ],
)
def test_what_was_redacted_is_history(before: list[Entry], after: list[Entry]):
    ledger = session(*before)
    assert news(ledger, *after) == NOTHING
    assert texts(ledger) == [entry.text for entry in after]
    # What comes after it is new all the same.
    assert news(ledger, *after, user("And now?")) == typed("And now?")


@pytest.mark.parametrize(
    "redacted",
    [
        "My card is",
        "My card is ****.",
        "My card is <CARD_NUMBER>",
        "my card is REDACTED",
        "My card is XXXX xxxx",
        "My card is removed",
        "My CARD is (a number)",
        "PERSON_1 card is 4111 1111",
    ],
)
def test_words_are_taken_out_in_many_ways(redacted: str):
    ledger = session(bot("Your card?"), CARD)
    assert news(ledger, bot("Your card?"), user(redacted)) == NOTHING


@pytest.mark.parametrize(
    "edited",
    [
        "What is the weather in Paris today?",
        "What is the weather like in Oslo today?",
        "What is the the weather in Oslo today?",
        "What is the weather in NYC today?",
        "What is the weather in [redacted] tomorrow?",
    ],
)
def test_an_edited_question_is_new_though_most_of_its_words_stay(edited: str):
    ledger = session(bot("hi"), user("What is the weather in Oslo today?"))
    assert news(ledger, bot("hi"), user(edited)) == typed(edited)


def test_what_was_redacted_is_history_though_more_was_said_since():
    ledger = session(developer("Help."), CARD)
    ledger.hear("Is that all?")
    entries = [developer("Help."), REDACTED, bot("Thanks."), user("Is that all?")]
    assert news(ledger, *entries) == NewText(spoken=True)


def test_a_text_is_redacted_once():
    ledger = session(bot("hi"), CARD)
    assert news(ledger, bot("hi"), REDACTED, user("My card!")) == typed("My card!")


def test_a_summary_that_replaces_older_turns_is_history():
    older = [user("one"), bot("two"), user("three"), bot("four")]
    ledger = session(*older, user("five"))
    entries = [developer("They counted."), user("five")]
    assert news(ledger, *entries) == NOTHING
    assert texts(ledger) == ["They counted.", "five"]
    ledger.begin_session()
    # The session that was told of it knows it.
    assert news(ledger, developer("They counted."), user("six")) == typed("six")


def test_a_text_that_takes_the_place_of_another_one_is_new():
    ledger = session(bot("hi"), user("What is the weather?"), bot("Fine."))
    assert news(ledger, bot("hi"), user("And who won?")) == typed("And who won?")


def test_what_the_developer_replaces_at_the_end_is_new():
    """As a note of the state that things are in, which is kept up to date."""
    ledger = session(user("hello"), developer("There are 2 items."))
    new = news(ledger, user("hello"), developer("There are 3 items."))
    assert new.typed == (("system", "There are 3 items."),)


def test_words_that_left_the_context_and_are_said_again_are_new():
    """As when a context is cut to its newest messages, and the user says yes again."""
    ledger = session(user("yes"), bot("Good."), user("no"))
    assert news(ledger, bot("Good."), user("no"), user("yes")) == typed("yes")


# A context that was reset

PIN = user("My PIN is 1234")


@pytest.mark.parametrize("after", [[], [developer("Ask for the name.")], [user("Once again.")]])
def test_a_context_that_keeps_nothing_was_reset(after: list[Entry]):
    ledger = session(PIN)
    ledger.keep(user("typed"))
    ledger.expect(user("on its way"), lasting=True)
    ledger.say("Your PIN is 1234.")
    new = news(ledger, *after)
    assert new == NewText(tuple(entry.as_told for entry in after), reset=True)
    # Until a session is told of it.
    assert ledger.is_reset
    assert news(ledger, *after).reset
    assert texts(ledger) == [entry.text for entry in after]
    ledger.begin_session()
    assert not ledger.is_reset
    assert news(ledger, *after, user("hello")) == typed("hello")


def test_of_a_context_that_was_reset_it_is_known_without_asking_for_news():
    ledger = session(PIN)
    ledger.read([developer("Ask for the name.")])
    assert ledger.is_reset


def test_a_context_that_keeps_only_what_the_session_was_not_told_was_reset():
    ledger = session(user("one"), bot("two"))
    ledger.read([developer("A summary."), bot("two")])
    assert not ledger.is_reset
    assert news(ledger, developer("A summary."), user("three")).reset


def test_what_is_told_after_a_reset_is_kept():
    ledger = session(PIN)
    ledger.read([])
    ledger.keep(user("typed"))
    assert texts(ledger) == ["typed"]


def test_a_context_that_gives_what_nobody_has_been_told_was_not_reset():
    ledger = session()
    ledger.read([user("one")])
    assert not news(ledger, user("two")).reset


@pytest.mark.parametrize("kept", [PIN, bot("Thanks."), calling("c")])
def test_a_context_that_keeps_anything_was_not_reset(kept: Entry):
    ledger = session(PIN, bot("Thanks."), calling("c"))
    assert not news(ledger, developer("A summary."), kept).reset


# What a session is told


def test_what_no_context_keeps_stands_where_it_was_said():
    ledger = session(user("one"))
    ledger.keep(user("two"))
    ledger.read([user("one"), bot("three")])
    ledger.keep(user("four"))
    ledger.read([user("zero"), user("one"), bot("three"), user("five")])
    assert texts(ledger) == ["zero", "one", "two", "three", "four", "five"]
    ledger.read([user("one"), user("five")])
    assert texts(ledger) == ["one", "two", "four", "five"]


def test_what_is_told_before_the_call_follows_what_was_saved():
    ledger = Ledger()
    ledger.keep(developer("The caller is Anna."))
    ledger.read([user("saved")])
    assert texts(ledger) == ["saved", "The caller is Anna."]


def test_what_a_session_hears_again_it_is_not_told():
    ledger = session(user("typed"))
    for text in ("one", "two"):
        ledger.hear(text)
    ledger.read([user("typed"), user("one"), bot("Yes."), user("two")])
    assert texts(ledger, hears_again=True) == ["typed", "one", "Yes."]
    assert texts(ledger) == ["typed", "one", "Yes.", "two"]
    # Be it redacted meanwhile.
    ledger.read([user("typed"), user("one"), bot("Yes."), user("[...]")])
    assert texts(ledger, hears_again=True) == ["typed", "one", "Yes."]


def test_what_was_said_and_not_heard_is_told():
    ledger = session(user("hello"))
    ledger.say("one")
    ledger.say("two")
    assert texts(ledger) == ["hello", "one", "two"]
    # The context may be quicker than the word that it was heard.
    ledger.read([user("hello"), bot("one")])
    assert texts(ledger) == ["hello", "one", "two"]
    ledger.play()
    ledger.read([user("hello"), bot("one")])
    assert texts(ledger) == ["hello", "one", "two"]
    ledger.interrupt()
    assert texts(ledger) == ["hello", "one"]
    ledger.play()


def test_only_the_newest_is_kept():
    ledger = Ledger()
    for n in range(500):
        ledger.keep(user(str(n)))
    assert texts(ledger) == [str(n) for n in range(300, 500)]
    assert ledger.last_kept("user") == user("499")
    assert ledger.last_kept("assistant") is None


# Whatever is done to a context


class Application:
    """A context that is edited, and what should come of it; each text occurs once."""

    def __init__(self) -> None:
        self.ledger = session(user("t0"))
        self.context = [user("t0")]
        self.count = 0
        # What Hydra knows, and what it is to be told next.
        self.known = {"t0"}
        self.due: list[str] = []
        self.coming: list[Entry] = []

    def text(self, kind: str = "t") -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def type(self, _: int) -> None:
        self.context.append(user(self.text()))
        self.due.append(self.context[-1].text)

    def say(self, _: int) -> None:
        self.context.append(bot(self.text()))
        self.known.add(self.context[-1].text)

    def speak(self, _: int) -> None:
        self.context.append(user(self.text()))
        self.known.add(self.context[-1].text)
        self.ledger.hear(self.context[-1].text)

    def tell(self, _: int) -> None:
        self.coming.append(developer(self.text()))
        self.known.add(self.coming[-1].text)
        self.ledger.expect(self.coming[-1], lasting=True)

    def arrive(self, _: int) -> None:
        if self.coming:
            self.context.append(self.coming.pop(0))

    def read(self, _: int) -> None:
        self.ledger.read(self.context)

    def take(self, _: int) -> None:
        new = news(self.ledger, *self.context)
        assert [text for _, text in new.typed] == self.due
        assert not new.reset
        self.known.update(self.due)
        self.due = []

    # What follows rewrites what stands before the last entry, which Hydra knew when it read.

    def rewrite(self, at: int, *inserted: Entry, removed: int) -> None:
        self.take(0)
        last = max(n for n, entry in enumerate(self.context) if entry.text in self.known)
        first = at % (last + 1)
        self.context[first : min(last, first + removed)] = inserted

    def summarise(self, at: int) -> None:
        self.rewrite(at, developer(self.text("summary")), removed=3)

    def redact(self, at: int) -> None:
        self.rewrite(at, user(self.text("redacted")), removed=1)

    def insert(self, at: int) -> None:
        self.rewrite(at, user(self.text("inserted")), removed=0)

    def remove(self, at: int) -> None:
        self.rewrite(at, removed=2)


EDITS = [
    Application.type,
    Application.say,
    Application.speak,
    Application.tell,
    Application.arrive,
    Application.read,
    Application.take,
    Application.summarise,
    Application.redact,
    Application.insert,
    Application.remove,
]


@given(st.lists(st.tuples(st.sampled_from(EDITS), st.integers(0, 50)), max_size=40))
def test_whatever_is_done_each_new_text_is_given_once_and_nothing_else(edits: Any):
    application = Application()
    for edit, at in edits:
        edit(application, at)
    application.take(0)
    told = texts(application.ledger)
    expected = [e.text for e in application.context] + [e.text for e in application.coming]
    assert sorted(told) == sorted(expected)
    in_context = {entry.text for entry in application.context}
    assert [text for text in told if text in in_context] == [
        entry.text for entry in application.context
    ]


entry_lists = st.lists(
    st.builds(
        text_entry, st.sampled_from(["user", "assistant", "developer"]), st.sampled_from("abc")
    ),
    max_size=8,
)


@given(st.lists(entry_lists, min_size=1, max_size=5))
def test_any_contexts_are_told_as_they_are(contexts: list[list[Entry]]):
    """Whatever texts occur twice: the next session is told the context, in order."""
    ledger = Ledger()
    for context in contexts:
        new = news(ledger, *context)
        assert ledger.history() == context
        assert news(ledger, *context).typed == ()
        assert len(new.typed) <= len(context)
