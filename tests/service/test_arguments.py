"""Arguments of the constructor are checked where they are given, and each error names its own."""

import inspect
from collections.abc import Callable
from decimal import Decimal
from typing import Any, get_type_hints

import numpy as np
import pytest
from pipecat.services.llm_service import FunctionCallParams, LLMService

from pipecat_hydra import HydraLLMService, RetryPolicy
from pipecat_hydra.service.arguments import Arguments
from pipecat_hydra.service.pipecat_versions import FunctionSchema, ToolsSchema


def make(**arguments: Any) -> HydraLLMService:
    return HydraLLMService(**{"api_key": "sk-secret", **arguments})


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMALLEST_API_KEY", raising=False)
    monkeypatch.delenv("HYDRA_BASE_URL", raising=False)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("turn_frame", "; did you mean 'turn_frames'?"),
        ("idle_timeout", "; did you mean 'idle_timeout_secs'?"),
        ("group_paralel_tools", "; did you mean 'group_parallel_tools'?"),
        ("temperature", ". It is a setting: settings=HydraLLMService.Settings(temperature=...)"),
        ("xyzzy", ""),
    ],
)
async def test_an_unknown_argument_raises_with_the_nearest_name(name: str, hint: str):
    with pytest.raises(TypeError) as raised:
        make(**{name: 1})
    assert str(raised.value) == f"HydraLLMService has no argument {name!r}{hint}"


async def test_the_arguments_of_all_bases_are_taken():
    given = {"run_in_parallel": False, "function_call_timeout_secs": 3.0}
    service = make(name="mine", enable_direct_mode=True, metrics=None, task_manager=None, **given)
    assert service.name == "mine"
    names = set(inspect.signature(LLMService.__init__).parameters)
    assert names >= given.keys()


async def test_what_a_class_beside_the_service_takes_is_taken():
    class Counting:
        def __init__(self, *, start_at: int = 0, **kwargs: Any):
            self.count = start_at

    class Counted(HydraLLMService, Counting):
        pass

    assert Counted(api_key="sk-secret", start_at=3).name
    with pytest.raises(TypeError, match="did you mean 'start_at'"):
        Counted(api_key="sk-secret", startat=3)


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("turn_frames", "'auto', 'propose', 'broadcast'"),
        ("fixed_phrases", "'model', 'warn', 'ignore'"),
        ("keypad", "'text', 'ignore'"),
        ("speakers", "'mix', 'first'"),
        ("auth", "'query', 'header'"),
        ("history", "'instructions', 'items'"),
    ],
)
async def test_a_wrong_literal_raises_with_the_choices(name: str, choices: str):
    with pytest.raises(ValueError, match=f"^{name} must be one of {choices}, not 'boradcast'$"):
        make(**{name: "boradcast"})


NUMBERS = [
    name
    for name, hint in get_type_hints(HydraLLMService.__init__).items()
    if hint in (float, float | None)
]


@pytest.mark.parametrize("name", [*NUMBERS, "function_call_timeout_secs"])
@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (-1, ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        ("10", TypeError),
        (True, TypeError),
        (Decimal(1), TypeError),
    ],
)
async def test_each_number_is_checked(name: str, value: object, kind: type[Exception]):
    with pytest.raises(kind, match=f"^{name} must be "):
        make(**{name: value})


@pytest.mark.parametrize("name", NUMBERS)
async def test_a_number_of_any_kind_is_a_number(name: str):
    for number in (2, 2.0, np.float32(2)):
        make(**{name: number})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("open_timeout_secs", 0, "must be greater than 0, not 0"),
        ("handshake_timeout_secs", 10_000, "must be at most 3600, not 10000"),
        ("handshake_timeout_secs", None, "must be a number of seconds, not None"),
        ("idle_timeout_secs", 0, r"must be greater than 0, not 0 \(None is no limit\)"),
        ("max_tool_rounds", 0, r"must be at least 1, not 0 \(None is no limit\)"),
        ("max_tool_rounds", 2.5, "must be a whole number, not 2.5"),
        ("max_tool_rounds", True, "must be a whole number, not True"),
        ("longest_turn_secs", 0, r"must be at least 1, not 0 \(a turn that is longer is taken"),
        ("longest_turn_secs", None, "must be a number of seconds, not None"),
        ("preroll_secs", 0, r"must be at least 0.5, not 0 \(all of the user's audio goes through"),
    ],
)
async def test_what_is_out_of_bounds_is_told_with_them(name: str, value: float, message: str):
    with pytest.raises((TypeError, ValueError), match=f"^{name} {message}"):
        make(**{name: value})


async def test_what_may_be_left_to_nobody():
    make(unused_timeout_secs=None, idle_timeout_secs=None, function_call_timeout_secs=None)
    make(kickoff_timeout_secs=0, end_timeout_secs=0)
    make(no_result_timeout_secs=None, max_tool_rounds=None)
    make(no_result_timeout_secs=0, max_tool_rounds=1)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vad_frames", "no", "must be of type bool, not str"),
        ("ssl", True, "must be of type SSLContext, not bool"),
        ("proxy", True, "must be of type str, not bool"),
        ("retry", 3, "must be of type RetryPolicy, not int"),
        ("base_url", b"wss://example.com", "must be of type str, not bytes"),
        ("voice", 3, "must be of type str, not int"),
        ("api_key", 3, "must be a string or a coroutine function, not int"),
    ],
)
async def test_a_value_of_the_wrong_type_is_told_by_name(name: str, value: object, message: str):
    with pytest.raises(TypeError, match=f"^{name} {message}$"):
        make(**{name: value})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("attempts_per_drop", 1.5, TypeError),
        ("attempts_per_call", True, TypeError),
        ("secs_per_drop", "60", TypeError),
        ("stable_secs", float("nan"), ValueError),
        ("longest_delay_secs", -1, ValueError),
    ],
)
def test_the_numbers_of_a_retry_policy_are_checked(name: str, value: Any, kind: type[Exception]):
    with pytest.raises(kind, match=f"^{name} must "):
        RetryPolicy(**{name: value})


def test_each_value_that_is_checked_has_the_type_that_the_constructor_takes():
    taken = get_type_hints(HydraLLMService.__init__)
    kept = get_type_hints(Arguments)
    made = {"keyring", "endpoint", "settings"}
    assert {name: taken.get(name) for name in kept if name not in made} == {
        name: hint for name, hint in kept.items() if name not in made
    }
    used_up = {"api_key", "base_url", "auth", "ssl", "proxy"}
    short = {"model", "voice", "system_instruction", "instructions"}
    assert (
        taken.keys() - {"return", "kwargs"} == (kept.keys() - made) | {"settings"} | used_up | short
    )


class TestShorthands:
    async def test_they_are_settings(self):
        service = make(model="hydra-v1.0", voice="ivy", system_instruction="Be brief.")
        settings = service._settings
        assert (settings.model, settings.voice) == ("hydra-v1.0", "ivy")
        assert settings.system_instruction == "Be brief."
        assert make(instructions="Be brief.")._settings.system_instruction == "Be brief."

    async def test_they_go_with_the_settings(self):
        settings = HydraLLMService.Settings(voice="ivy", system_instruction=None)
        made = make(settings=settings, voice="ivy", instructions="Be brief.")._settings
        assert (made.voice, made.system_instruction) == ("ivy", "Be brief.")
        assert settings.system_instruction is None

    @pytest.mark.parametrize("name", ["model", "voice", "system_instruction", "instructions"])
    async def test_one_that_differs_from_a_setting_raises(self, name: str):
        settings = HydraLLMService.Settings(model="a", voice="a", system_instruction="a")
        with pytest.raises(ValueError, match=f"^{name} and .* of the settings differ"):
            make(settings=settings, **{name: "b"})

    async def test_both_names_of_the_instruction_may_not_differ(self):
        with pytest.raises(ValueError, match=r"^instructions and system_instruction"):
            make(system_instruction="a", instructions="b")


class TestSettings:
    @pytest.mark.parametrize("given", [{"voice": "ivy"}, {}])
    async def test_a_dict_raises_with_what_to_write(self, given: Any):
        with pytest.raises(TypeError, match=r"not dict: write settings=HydraLLMService\.Settings"):
            make(settings=given)

    @pytest.mark.parametrize(
        "given", [{"voice": 3}, {"system_instruction": ["a"]}, {"generate_initial_response": "no"}]
    )
    async def test_one_of_the_wrong_type_is_told_by_name(self, given: dict[str, Any]):
        with pytest.raises(TypeError, match=f"^settings: {next(iter(given))} must be of type"):
            make(settings=HydraLLMService.Settings(**given))

    async def test_those_that_hydra_does_not_have_are_told_in_one_warning(
        self, warnings: list[str]
    ):
        make(settings=HydraLLMService.Settings(temperature=0.5, top_p=0.9))
        (warning,) = warnings
        assert "Hydra has no temperature, top_p" in warning


class TestEnvironment:
    async def test_key_and_url_come_from_it(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SMALLEST_API_KEY", " sk-of-the-environment\n")
        monkeypatch.setenv("HYDRA_BASE_URL", "ws://127.0.0.1:8765/s2s")
        endpoint = await HydraLLMService()._run.session.dial()
        assert endpoint.api_key.get_secret_value() == "sk-of-the-environment"
        assert endpoint.base_url == "ws://127.0.0.1:8765/s2s"

    async def test_what_is_given_wins(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("SMALLEST_API_KEY", "sk-of-the-environment")
        monkeypatch.setenv("HYDRA_BASE_URL", "ws://127.0.0.1:8765/s2s")
        endpoint = await make(base_url="wss://example.com/s2s")._run.session.dial()
        assert endpoint.api_key.get_secret_value() == "sk-secret"
        assert endpoint.base_url == "wss://example.com/s2s"

    async def test_without_either_the_public_endpoint_is_it(self):
        endpoint = await make()._run.session.dial()
        assert endpoint.base_url == "wss://api.smallest.ai/waves/v1/s2s"

    @pytest.mark.parametrize("value", [None, "", " "])
    async def test_without_a_key_the_error_says_what_to_set(
        self, monkeypatch: pytest.MonkeyPatch, value: str | None
    ):
        if value is not None:
            monkeypatch.setenv("SMALLEST_API_KEY", value)
        with pytest.raises(ValueError, match="set SMALLEST_API_KEY, or pass api_key"):
            HydraLLMService()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"context_limit_bytes": 1_999}, ValueError, "at least 2000, not 1999 .*None is no limit"),
        ({"context_limit_bytes": "16 kB"}, TypeError, "must be a whole number, not '16 kB'"),
        ({"context_limit_bytes": True}, TypeError, "must be a whole number, not True"),
        ({"context_warning_bytes": 0}, ValueError, "greater than 0, not 0 .*None is no warning"),
    ],
)
async def test_limits_in_bytes_have_bounds_too(
    arguments: dict[str, Any], error: type[Exception], message: str
):
    (name,) = arguments
    with pytest.raises(error, match=f"{name} must be .*{message.removeprefix('must be ')}"):
        make(**arguments)
    make(**{name: None})


# Tools


def schema(**fields: Any) -> FunctionSchema:
    given = {"name": "f", "description": "F.", "properties": {}, "required": []}
    return FunctionSchema(**{**given, **fields})


async def direct(params: FunctionCallParams, city: str):
    """Do something."""


def not_async(params: FunctionCallParams, city: str):
    """Do something."""


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ("look_up", "tools must be a list of functions and FunctionSchemas, .*, not str"),
        ({"name": "f"}, "not dict"),
        (5, "not int"),
        (direct, "put the one tool in a list"),
        (schema(), "put the one tool in a list"),
        ([direct, 1], r"tools\[1\] is a int"),
        ([{"type": "function"}], r"tools\[0\] is a dict: make a FunctionSchema of it"),
        ([not_async], r"tools\[0\] is not fit to be called by a model: .* must be async"),
    ],
)
async def test_tools_of_the_wrong_kind_are_an_error_where_they_are_given(tools: Any, message: str):
    with pytest.raises(TypeError, match=message):
        make(tools=tools)


@pytest.mark.parametrize("wrap", [lambda one: [one], lambda one: ToolsSchema([one])])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"properties": {"x": {"maximum": float("nan")}}}, "parameters are not JSON"),
        ({"properties": {"x": {"maximum": float("inf")}}}, "parameters are not JSON"),
        ({"properties": {"x": {"enum": {1, 2}}}}, "parameters are not JSON"),
        ({"properties": {(1, 2): {}}}, "parameters are not JSON"),
        ({"properties": None}, "properties are not a dict"),
        ({"properties": "x"}, "properties are not a dict"),
        ({"required": "x"}, "required of it is not a list"),
        ({"name": ""}, "name is not a text"),
        ({"name": 5}, "name is not a text"),
    ],
)
async def test_a_tool_that_hydra_cannot_be_told_of_is_an_error_where_it_is_given(
    fields: dict[str, Any], message: str, wrap: Callable[[FunctionSchema], Any]
):
    with pytest.raises(ValueError, match=f"tools: function .*{message}"):
        make(tools=wrap(schema(**fields)))


@pytest.mark.parametrize("kind", [list, tuple, set, iter])
async def test_tools_may_come_in_any_collection(kind: Any):
    make(tools=kind([direct, schema()]))
