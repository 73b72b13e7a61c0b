"""Which voice is asked for, once Hydra has rejected one."""

from pipecat_hydra.service.voices import Voices


def test_the_voice_that_is_wanted_is_asked_for_until_it_is_rejected():
    voices = Voices()
    assert voices.choose("hydra-v1.1", "zoe") == "zoe"
    voices.accept("hydra-v1.1", "aria")
    assert voices.choose("hydra-v1.1", "zoe") == "zoe"


def test_without_a_voice_that_was_accepted_none_is_asked_for():
    voices = Voices()
    voices.reject("hydra-v1.1", "zoe")
    assert voices.choose("hydra-v1.1", "zoe") is None
    assert voices.choose("hydra-v1.1", "maya") == "maya"


def test_the_last_voice_that_was_accepted_takes_the_place_of_one_that_was_rejected():
    voices = Voices()
    voices.accept("hydra-v1.1", "aria")
    voices.accept("hydra-v1.1", "maya")
    voices.reject("hydra-v1.1", "zoe")
    assert voices.choose("hydra-v1.1", "zoe") == "maya"


def test_a_voice_that_was_accepted_once_may_be_rejected_later():
    voices = Voices()
    voices.accept("hydra-v1.1", "aria")
    voices.reject("hydra-v1.1", "aria")
    voices.reject("hydra-v1.1", "zoe")
    assert voices.choose("hydra-v1.1", "zoe") is None
    assert voices.choose("hydra-v1.1", "aria") is None


def test_each_model_has_voices_of_its_own():
    voices = Voices()
    voices.accept("hydra-v1.1", "aria")
    voices.reject("hydra-v1.0", "zoe")
    assert voices.choose("hydra-v1.0", "zoe") is None
    assert voices.choose("hydra-v1.1", "zoe") == "zoe"
