"""What the tests of the conversation share."""

import pytest
from support.driver import Driver


@pytest.fixture
def driver() -> Driver:
    """A conversation whose session is live."""
    return Driver().live()
