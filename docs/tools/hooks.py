"""What MkDocs does besides, when `make docs` builds the site.

The pages are written for readers of the repository, so a link may lead to any file of it. On the
site a link out of `docs/` leads to the file in the repository, and CHANGELOG.md is a page. A site
that loads anything from elsewhere is not built.
"""

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_LINK = re.compile(r"(?<=\]\()(?P<path>(?:\.\./)+[^)#\s]+)(?=[)#])")
_LOADED = re.compile(
    r"<(?:script|img|iframe|source|audio|video)\b[^>]*\bsrc=[\"']?(?P<src>(?:https?:)?//[^\"' >]+)"
    r"|<link\b(?=[^>]*\brel=[\"']?(?:stylesheet|preload|preconnect|icon|modulepreload))"
    r"[^>]*\bhref=[\"']?(?P<href>(?:https?:)?//[^\"' >]+)"
    r"|(?:@import|url\()\s*[\"']?(?P<css>(?:https?:)?//[^\"') ]+)"
    # Material's script asks GitHub about the repository where it finds this.
    r"|\bdata-md-component=[\"']?(?P<asks>source)\b",
    re.IGNORECASE,
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the changelog, which is at the top of the repository."""
    changelog = Path(config.docs_dir).parent / "CHANGELOG.md"
    files.append(File.generated(config, "changelog.md", abs_src_path=str(changelog)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links out of `docs/` into links to the repository."""
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def to_repository(link: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(folder, link["path"]))
        if path.startswith("docs/"):
            return link["path"]
        return f"{config.repo_url}/blob/main/{path}"

    return _LINK.sub(to_repository, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that names a script, style, font or picture elsewhere, or that asks GitHub.

    Raises:
        PluginError: There is one.
    """
    site = Path(config.site_dir)
    loaded = [
        f"{path.relative_to(site)}: {found[found.lastgroup or 0]}"
        for kind in ("*.html", "*.css")
        for path in sorted(site.rglob(kind))
        for found in _LOADED.finditer(path.read_text(encoding="utf-8"))
    ]
    if loaded:
        raise PluginError("The site loads what is elsewhere:\n" + "\n".join(loaded))
