r"""Text that can be written as UTF-8, whatever it was made of.

JSON may name half a surrogate pair by an escape (`\ud800`), and text that was cut in the middle of
a character may end in one. Python keeps it, but no encoder, JSON library or framework below takes
it.
"""

__all__ = ["well_formed"]


def well_formed(text: str) -> str:
    """Return a text with halves of surrogate pairs joined, or replaced by U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
