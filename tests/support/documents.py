"""The documents of the project as tests read them: pages, code blocks, headings and links.

Code blocks of Python run (`tests/docs/test_python.py`). How a block runs is said by the block
itself, or by a comment on the line above it, which readers of the page do not see:

- A block is a piece of one program that the page is: its blocks run from top to bottom, share
  their names, and may `await`. Hydra is an emulator, which the environment's key and endpoint
  lead to. `transport` is a transport of a call. A page that makes `llm` has a call held with it,
  in `worker` or `pipeline` if it makes these too.
- A block whose first line is `# NAME.py` is that file. A file `test_*.py` is run by pytest, and a
  call is held with the `run_bot` or `bot` of any other. Files of the block before are beside it,
  with `question.wav` and `stop.wav`, and `calls/` with a recorded call; and `bot.py`, a bot with a
  function, on pages that have no file of this name.
- `<!-- during a call -->`: the block runs while the call with `llm` goes on.
- `<!-- no call: REASON -->`: the block runs, and no call is held with the `llm` that it makes.
- `<!-- not run: REASON -->`: the block is compiled, and that is all. A test counts these.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

__all__ = ["DOCS", "PAGES", "ROOT", "Block", "Link", "Page", "page"]

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"

_FENCE = re.compile(
    r"(?:^(?P<indent_of_mark> *)<!-- (?P<mark>[^\n]+?) -->\n+)?"
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<code>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_HEADING = re.compile(r"^#{1,6} (?P<text>.+?)(?: #+)?$", re.MULTILINE)
_LINK = re.compile(r"(?<!\\)\[(?:[^][]|\[[^][]*\])*\]\((?P<to>[^)\s]+)(?: \"[^\"]*\")?\)")
_CODE = re.compile(r"`[^`\n]+`")
_BARE = re.compile(r"(?<![(<\"'`\w])https?://[^\s)>\"'`|]+")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Parameters:
        language: The word behind the fence.
        code: The code, without the indentation of the fence.
        line: The line of the page on which the code begins, from 1.
        mark: The comment above the fence; empty if there is none.
    """

    language: str
    code: str
    line: int
    mark: str = ""

    @property
    def file(self) -> str | None:
        """The name of the file that the block is."""
        match = re.match(r"# ([\w/]+\.\w+)\n", self.code)
        return match[1] if match else None


@dataclass(frozen=True)
class Link:
    """A link of a page.

    Parameters:
        to: Where it leads.
        line: The line of the page, from 1.
    """

    to: str
    line: int


@dataclass(frozen=True)
class Page:
    """A Markdown file.

    Parameters:
        path: The file.
        text: What it says.
    """

    path: Path
    text: str = field(repr=False)

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    def blocks(self, *languages: str) -> list[Block]:
        """The code blocks in these languages, in order."""
        found: list[Block] = []
        for fence in _FENCE.finditer(self.text):
            if not languages or fence["language"] in languages:
                lines = fence["code"].splitlines(keepends=True)
                code = "".join(line.removeprefix(fence["indent"]) for line in lines)
                found.append(
                    Block(
                        fence["language"],
                        code,
                        self._line(fence.start("code")),
                        fence["mark"] or "",
                    )
                )
        return found

    def links(self) -> Iterator[Link]:
        """The links of the prose."""
        prose = self._prose
        for link in _LINK.finditer(prose):
            yield Link(link["to"], self._line(link.start("to")))
        for bare in _BARE.finditer(_CODE.sub(_blank, prose)):
            yield Link(bare[0].rstrip(".,;:"), self._line(bare.start()))

    def code_words(self) -> Iterator[Link]:
        """What stands between backticks in the prose, with its lines."""
        for word in _CODE.finditer(self._prose):
            yield Link(word[0].strip("`"), self._line(word.start()))

    @property
    def headings(self) -> list[str]:
        """The texts of the headings."""
        return [heading["text"] for heading in _HEADING.finditer(self._prose)]

    def anchors(self) -> set[str]:
        """The anchors that its headings have both on GitHub and on the site."""
        headings = self.headings
        return _numbered(_github_slug, headings, "-") & _numbered(_site_slug, headings, "_")

    def words(self) -> int:
        """How many words it has, code included."""
        return len(self.text.split())

    @property
    def _prose(self) -> str:
        """The text with its code blocks and comments blanked; places stay."""
        without = _FENCE.sub(_blank, self.text)
        return re.sub(r"<!--.*?-->", _blank, without, flags=re.DOTALL)

    def _line(self, at: int) -> int:
        return self.text.count("\n", 0, at) + 1


@cache
def page(path: Path) -> Page:
    """Read a page. MDX, in which Pipecat's documentation is written, has comments of its own."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".mdx":
        text = re.sub(r"\{/\* (.*?) \*/\}", r"<!-- \1 -->", text)
    return Page(path, text)


def _blank(match: re.Match[str]) -> str:
    return re.sub(r"[^\n]", " ", match[0])


def _numbered(slug_of: Callable[[str], str], headings: list[str], joint: str) -> set[str]:
    """Make the anchors of headings; the second of the same name has a number."""
    seen: dict[str, int] = {}
    anchors: set[str] = set()
    for heading in headings:
        slug = slug_of(re.sub(r"\[([^]]*)\]\([^)]*\)|`", r"\1", heading))
        count = seen[slug] = seen.get(slug, -1) + 1
        anchors.add(f"{slug}{joint}{count}" if count else slug)
    return anchors


def _github_slug(text: str) -> str:
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def _site_slug(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())


PAGES = [page(path) for path in (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))]
"""All pages, with README first."""
