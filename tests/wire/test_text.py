"""Text that can be written as UTF-8."""

import pytest

from pipecat_hydra.wire.text import well_formed


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("café 😀", "café 😀"),
        ("a\ud83d", "a\ufffd"),
        ("\ude00b", "\ufffdb"),
        ("\ud83d\ude00", "😀"),
        ("\ude00\ud83d", "\ufffd\ufffd"),
    ],
)
def test_halves_of_surrogate_pairs_are_joined_or_replaced(text: str, expected: str):
    assert well_formed(text) == expected
    well_formed(text).encode()
