"""Writes the parts of the documents that repeat the code: tables of settings, options and voices.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->` in a page, so that it is there
for readers of the repository too. `make docs` writes all parts; a test fails if one is stale.
"""

import dataclasses
import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperArgument

from pipecat_hydra import HydraLLMService, HydraLLMSettings, RetryPolicy
from pipecat_hydra.cli.main import app
from pipecat_hydra.emulator import EmulatorSettings
from pipecat_hydra.wire.protocol import DEFAULT_MODEL, MODELS, V1_0_VOICES, V1_1_VOICES

DOCS: Final = Path(__file__).parent.parent

_PART = re.compile(
    r"(?P<begin><!-- generated: (?P<name>[\w-]+) -->\n).*?(?P<end><!-- end -->)", re.DOTALL
)
_ITEM = re.compile(r"(?P<name>\*{0,2}\w+): (?P<text>.+(?:\n(?: {4,}.*)?)*)")


def generated(page: str) -> str:
    """Return the text of a page with its generated parts as the code has them now.

    Args:
        page: The text of the page.

    Raises:
        KeyError: The page names a part that is not generated.
    """
    return _PART.sub(lambda part: f"{part['begin']}\n{PARTS[part['name']]()}\n{part['end']}", page)


def pages() -> list[Path]:
    """Tell the pages that have generated parts."""
    found = sorted(DOCS.rglob("*.md"))
    return [path for path in found if _PART.search(path.read_text(encoding="utf-8"))]


def _arguments() -> str:
    described = _described(HydraLLMService.__init__, "Args")
    parameters = inspect.signature(HydraLLMService.__init__).parameters.values()
    rows = [
        (f"`{parameter.name}`", f"`{_default(parameter.default)}`", described[parameter.name])
        for parameter in parameters
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    return _table(("argument", "default", "what it is"), rows)


def _settings() -> str:
    described = _described(HydraLLMSettings, "Parameters")
    rows = [
        ("`model`", f"`{_default(DEFAULT_MODEL)}`", "The Hydra model."),
        ("`voice`", "the model's own", described["voice"]),
        ("`system_instruction`", "none", "Who the bot is, and how it speaks."),
        ("`generate_initial_response`", "`None`", described["generate_initial_response"]),
    ]
    return _table(("setting", "default", "what it is"), rows)


def _fields_of(kind: type[Any], header: str) -> Callable[[], str]:
    """Make a table of the fields of a dataclass."""

    def table() -> str:
        described = _described(kind, "Parameters")
        rows = [
            (f"`{field.name}`", f"`{_default(_default_of(field))}`", described[field.name])
            for field in dataclasses.fields(kind)
        ]
        return _table((header, "default", "what it is"), rows)

    return table


def _models() -> str:
    rows = [
        (
            f"`{model.name}`",
            f"{model.output_sample_rate:,} Hz".replace(",", " "),
            f"`{model.default_voice}`",
            "deprecated" if model.deprecated else "default" if name == DEFAULT_MODEL else "served",
        )
        for name, model in MODELS.items()
    ]
    return _table(("model", "rate of its audio", "default voice", "state"), rows)


def _voices() -> str:
    rows = [
        (f"`{name}`", ", ".join(f"`{voice}`" for voice in voices))
        for name, voices in (("hydra-v1.1", V1_1_VOICES), ("hydra-v1.0", V1_0_VOICES))
    ]
    return _table(("documented for", "voices"), rows)


def _commands() -> str:
    command: Any = typer.main.get_command(app)
    return "\n".join(_command(name, one) for name, one in command.commands.items())


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if isinstance(p, TyperArgument)]
    options = [p for p in command.params if not isinstance(p, TyperArgument)]
    places = " ".join(
        p.metavar if p.required else f"[{p.metavar}]" for p in map(_with_metavar, arguments)
    )
    parts = [
        f"## pipecat-hydra {name}\n",
        f"```text\npipecat-hydra {name} {places + ' ' if places else ''}[OPTIONS]\n```\n",
        _paragraphs(command.help) + "\n",
    ]
    if arguments:
        rows = [(f"`{p.metavar}`", _shown(p), _cell(p.help)) for p in arguments]
        parts.append(_table(("argument", "default", "what it is"), rows))
    if options:
        rows = [(_spelt(p), _shown(p), _cell(p.help)) for p in options]
        parts.append(_table(("option", "default", "what it does"), rows))
    if command.epilog:
        parts.append(_paragraphs(command.epilog) + "\n")
    return "\n".join(parts)


def _with_metavar(parameter: Any) -> Any:
    parameter.metavar = parameter.metavar or parameter.name.upper()
    return parameter


def _spelt(option: Any) -> str:
    names = sorted((*option.opts, *option.secondary_opts), key=len, reverse=True)
    value = "" if option.is_flag else f" {option.metavar or _kind(option)}"
    return ", ".join(f"`{name}{value}`" for name in names)


def _kind(option: Any) -> str:
    return option.name.upper()


def _shown(parameter: Any) -> str:
    """Tell the default of a parameter of the command, as `--help` does."""
    if isinstance(parameter.show_default, str):
        return parameter.show_default
    if parameter.required:
        return "required"
    if getattr(parameter, "is_flag", False) or parameter.default in (None, (), []):
        return ""
    return f"`{parameter.default}`"


def _described(documented: Any, section: str) -> dict[str, str]:
    """Read the descriptions of a section of a docstring, by name."""
    text = inspect.getdoc(documented) or ""
    _, _, rest = text.partition(f"{section}:\n")
    block = re.split(r"\n(?=\S)", rest, maxsplit=1)[0]
    items = _ITEM.finditer(inspect.cleandoc(f"\n{block}"))
    return {item["name"].strip("*"): _cell(item["text"]) for item in items}


def _default_of(field: "dataclasses.Field[Any]") -> Any:
    made = field.default_factory
    return field.default if made is dataclasses.MISSING else made()


def _default(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _paragraphs(text: str) -> str:
    joined = "\n\n".join(" ".join(one.split()) for one in inspect.cleandoc(text).split("\n\n"))
    return re.sub(r"^(- .*)\n(?=\n- )", r"\1", joined, flags=re.MULTILINE)  # tight lists


def _table(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


PARTS: Final[dict[str, Callable[[], str]]] = {
    "arguments": _arguments,
    "commands": _commands,
    "emulator-settings": _fields_of(EmulatorSettings, "field"),
    "models": _models,
    "retry-policy": _fields_of(RetryPolicy, "field"),
    "settings": _settings,
    "voices": _voices,
}


def main() -> None:
    """Write each page whose generated parts are stale."""
    for path in pages():
        text = path.read_text(encoding="utf-8")
        if (new := generated(text)) != text:
            path.write_text(new, encoding="utf-8")
            print(f"written: {path.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    main()
