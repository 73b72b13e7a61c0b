"""Where the pages lead: links, anchors, and the places of the pages on the site."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from support.documents import DOCS, PAGES, ROOT, Link, Page, page

# A page of the site that is made from a file elsewhere.
ELSEWHERE = {"changelog.md": ROOT / "CHANGELOG.md"}
SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
REPOSITORY = SITE["repo_url"]
# Not on the site: texts for other sites.
OFF_SITE = "pipecat/"

LINKS = [(page, link) for page in PAGES for link in page.links()]
INTERNAL = [(page, link) for page, link in LINKS if not re.match(r"\w+:", link.to)]
EXTERNAL = [(page, link) for page, link in LINKS if re.match(r"\w+:", link.to)]


def place(value: object) -> str:
    return value.to if isinstance(value, Link) else str(value)


@pytest.mark.parametrize(("page_", "link"), INTERNAL, ids=place)
def test_a_link_leads_to_a_file_of_the_project(page_: Page, link: Link):
    where, _, anchor = link.to.partition("#")
    path = page_.path.parent / where if where else page_.path
    path = ELSEWHERE.get(where, path)
    assert path.resolve().exists(), f"{page_}:{link.line}: there is no {where}"
    assert path.resolve().is_relative_to(ROOT)
    if anchor:
        assert path.suffix == ".md"
        assert anchor in page(path.resolve()).anchors(), f"{page_}:{link.line}: no #{anchor}"


@pytest.mark.parametrize(("page_", "link"), EXTERNAL, ids=place)
def test_a_link_elsewhere_is_well_formed(page_: Page, link: Link):
    parts = urlsplit(link.to)
    local = parts.hostname in ("localhost", "127.0.0.1")
    assert parts.scheme == "https" or (parts.scheme == "http" and local), f"{page_}:{link.line}"
    assert parts.hostname
    assert re.fullmatch(r"(?:[\w-]+\.)+[a-z]{2,}|localhost|127\.0\.0\.1", parts.hostname)
    if link.to.startswith(f"{REPOSITORY}/"):
        path = re.sub(r"^/(?:blob|tree|raw)/main/", "", link.to.removeprefix(REPOSITORY))
        is_file = path != link.to.removeprefix(REPOSITORY)
        assert not is_file or (ROOT / path.partition("#")[0]).exists(), f"{page_}:{link.line}"


def test_the_readme_is_read_elsewhere_so_its_links_are_absolute():
    readme = page(ROOT / "README.md")
    assert [link.to for link in readme.links() if not re.match(r"https?://|#", link.to)] == []


def test_each_page_has_its_place_on_the_site():
    named = list(in_nav(SITE["nav"]))
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    pages = {name for name in pages if not name.startswith(OFF_SITE)} | set(ELSEWHERE)
    assert pages - set(named) == set(), "add these to `nav` in mkdocs.yml"
    assert set(named) - pages == set(), "`nav` in mkdocs.yml names what is not there"
    assert len(named) == len(set(named))


def in_nav(entry: object) -> "list[str]":
    match entry:
        case str():
            return [entry]
        case dict():
            return [name for below in entry.values() for name in in_nav(below)]
        case list():
            return [name for below in entry for name in in_nav(below)]
        case _:
            raise TypeError(entry)


def test_each_page_has_one_title():
    for one in PAGES:
        prose = re.sub(r"```.*?```", "", one.text, flags=re.DOTALL)
        assert len(re.findall(r"^# ", prose, re.MULTILINE)) == 1, one


def test_a_link_of_a_page_is_no_path_of_this_machine():
    assert not [link for _, link in LINKS if Path(link.to).is_absolute()]
