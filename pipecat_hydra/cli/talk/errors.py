"""Errors of commands: each has an exit code and a message for the user."""

from enum import IntEnum

from pipecat.utils.errors import ErrorCategory

__all__ = ["ExitCode", "TalkError", "from_category", "without_key"]


class ExitCode(IntEnum):
    """Exit codes of the commands."""

    OK = 0
    FAILED = 1
    """Any error without a code of its own."""
    USAGE = 2
    """The command line is wrong: a missing file, a file without audio, a bad option."""
    NO_ANSWER = 3
    """The bot was not heard within the time limit."""
    BAD_KEY = 4
    """The key was rejected."""
    NO_NETWORK = 5
    """The server could not be reached, or the connection was lost."""
    AT_CAPACITY = 6
    """The server was full."""
    EXCEEDED = 7
    """A latency was longer than its limit, or was not measured."""


class TalkError(Exception):
    """A command cannot continue; the message says why and what to do, on one line."""

    def __init__(self, message: str, exit_code: ExitCode = ExitCode.FAILED):
        """Create an error.

        Args:
            message: A message for the user, which must not contain the key.
            exit_code: What the command exits with.
        """
        super().__init__(message)
        self.exit_code = exit_code


def from_category(category: ErrorCategory | None, message: str, url: str) -> TalkError:
    """Make the error for an error that the service reported.

    Args:
        category: Its category.
        message: Its message, with secrets removed.
        url: The endpoint, without query.

    Returns:
        The error to end with.
    """
    match category:
        case ErrorCategory.AUTHENTICATION | ErrorCategory.AUTHORIZATION:
            return TalkError(
                f"{url} rejected the key: check SMALLEST_API_KEY, or unset it to talk to the "
                "emulator",
                ExitCode.BAD_KEY,
            )
        case ErrorCategory.CONNECTIVITY:
            return TalkError(f"no connection to {url}: {message}", ExitCode.NO_NETWORK)
        case ErrorCategory.RATE_LIMIT:
            return TalkError(
                f"Hydra is at capacity, try again later: {message}", ExitCode.AT_CAPACITY
            )
        case _:
            return TalkError(message)


def without_key(message: str, api_key: str | None) -> str:
    """Mask a key in a message, and put the message on one line.

    Args:
        message: Any text, for instance that of an unexpected exception.
        api_key: The key, if there is one.

    Returns:
        The text with the key masked and line breaks made blanks.
    """
    if api_key:
        message = message.replace(api_key, "[REDACTED]")
    return " ".join(message.split())
