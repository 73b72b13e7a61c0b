"""A fault plan: which connection has which faults, and the same choices for the same seed."""

import pytest

from pipecat_hydra.emulator import Drop, FaultError, FaultPlan, Full, Jitter

DROP = Drop(times=1)
JITTER = Jitter(first=2)


def test_a_plan_is_made_of_faults_or_is_one_already() -> None:
    plan = FaultPlan.of([DROP, JITTER])
    assert plan == FaultPlan((DROP, JITTER), 0)
    assert FaultPlan.of(plan) is plan


def test_a_connection_has_the_faults_that_hold_for_it() -> None:
    plan = FaultPlan((DROP, JITTER), 5)
    assert [plan.connection(number).faults for number in (1, 2, 3)] == [
        (DROP,),
        (JITTER,),
        (JITTER,),
    ]
    assert plan.connection(3).number == 3


def test_faults_are_found_by_class() -> None:
    chosen = FaultPlan((Jitter(), DROP, Jitter(secs=2.0))).connection(1)
    assert list(chosen.of(Jitter)) == [Jitter(), Jitter(secs=2.0)]
    assert list(chosen.of(Full)) == []


def test_each_connection_makes_choices_of_its_own_and_the_same_ones_again() -> None:
    def choices(seed: int, number: int) -> list[float]:
        rng = FaultPlan(seed=seed).connection(number).rng
        return [rng.random() for _ in range(5)]

    assert choices(7, 1) == choices(7, 1)
    assert choices(7, 1) != choices(7, 2)
    assert choices(7, 1) != choices(8, 1)


def test_a_plan_is_written_as_it_is_read() -> None:
    plan = FaultPlan.parse(["drop:during=response", " jitter:secs=0.5 "], seed=3)
    assert [fault.kind for fault in plan.faults] == ["drop", "jitter"]
    assert plan.seed == 3
    options = str(plan).split(" ")
    assert options[-2:] == ["--fault-seed", "3"]
    texts = [text for text in options[:-2] if text != "--fault"]
    assert FaultPlan.parse(texts, seed=3) == plan


def test_a_plan_without_faults_is_written_with_its_seed() -> None:
    assert str(FaultPlan(seed=4)) == "--fault-seed 4"


@pytest.mark.parametrize(
    ("text", "drawn"),
    [
        ("random", FaultPlan.random(11)),
        ("random:violence=1", FaultPlan.random(11, violence=1.0)),
        ("random:violence=0", FaultPlan((), 11)),
    ],
)
def test_random_stands_for_the_faults_of_the_seed(text: str, drawn: FaultPlan) -> None:
    plan = FaultPlan.parse([text, "drop"], seed=11)
    assert plan == FaultPlan((*drawn.faults, Drop()), 11)


@pytest.mark.parametrize("options", ["violence=", "violence=much", "kinds=drop", "0.5"])
def test_options_of_random_that_cannot_be(options: str) -> None:
    with pytest.raises(FaultError, match="there is violence, from 0 to 1"):
        FaultPlan.parse([f"random:{options}"])


@pytest.mark.parametrize("violence", [-0.1, 1.1])
def test_violence_is_from_0_to_1(violence: float) -> None:
    with pytest.raises(FaultError):
        FaultPlan.random(1, violence=violence)
