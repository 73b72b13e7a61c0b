"""The HTTP application: serves the page and its facts, and answers WebRTC offers."""

import importlib.metadata
import mimetypes
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from loguru import logger
from pipecat.transports.smallwebrtc.request_handler import (
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
)

from pipecat_hydra.cli.web.call import TEXT_LIMIT
from pipecat_hydra.cli.web.calls import Calls
from pipecat_hydra.cli.web.guard import BodyLimit, Hosts
from pipecat_hydra.cli.web.prebuilt import PREBUILT_PATH, add_prebuilt, has_prebuilt
from pipecat_hydra.cli.web.recordings import Recordings
from pipecat_hydra.cli.web.service import INSTRUCTIONS_LIMIT, ChoiceError, Offered

__all__ = ["About", "build_app"]

_STATIC: Final = Path(__file__).parent / "static"

_LINKS: Final = {
    "Smallest AI": "https://smallest.ai",
    "Pipecat": "https://github.com/pipecat-ai/pipecat",
}

_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_PAGE_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "media-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """Facts about the bot that the page shows.

    Parameters:
        service: Whether Hydra or the emulator answers.
        model: The model.
        voice: Its voice; `None` for the model's default, if the default is not known.
        script: Whether the emulator answers by the script of the package or by another.
        instructions: The system instruction.
        models: The models, each with its voices, that a page may choose for its call.
        instructions_limit: How many characters of instructions a page may choose.
        text_limit: How many characters of text a page may send at a time.
        can_disturb: Whether a page may disturb its call; see `cli/web/disturbances.py`.
        version: Version of the package.
        links: Pages on the internet about what talks here, by name.
        prebuilt: Path of Pipecat's prebuilt page, if it is installed.
    """

    service: Literal["hydra", "emulator"]
    model: str
    voice: str | None
    script: Literal["own", "other"] | None
    instructions: str
    models: tuple[Offered, ...]
    can_disturb: bool
    instructions_limit: int = INSTRUCTIONS_LIMIT
    text_limit: int = TEXT_LIMIT
    version: str = field(default_factory=lambda: importlib.metadata.version("pipecat-hydra"))
    links: Mapping[str, str] = field(default_factory=lambda: _LINKS)
    prebuilt: str | None = field(
        default_factory=lambda: f"{PREBUILT_PATH}/" if has_prebuilt() else None
    )


def build_app(calls: Calls, recordings: Recordings, about: About, hosts: Hosts) -> FastAPI:
    """Build the application.

    Args:
        calls: Answers the offers.
        recordings: Has the files of the calls.
        about: Facts that the page shows.
        hosts: Says which requests are refused.

    Returns:
        The application.
    """
    # On Windows the registry may say that a script is plain text.
    mimetypes.add_type("text/javascript", ".js")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    app.add_middleware(BodyLimit)

    # It is outside of the limit, because the middleware that is added last is.
    @app.middleware("http")
    async def guard(
        request: Request, call_next: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        refusal = hosts.refusal(request)
        if refusal is None:
            response = await call_next(request)
        else:
            response = PlainTextResponse(f"{refusal}\n", 403)
        response.headers.update(_HEADERS)
        # Pipecat's prebuilt page loads files from other sites.
        if not request.url.path.startswith(PREBUILT_PATH):
            response.headers.update(_PAGE_HEADERS)
        return response

    @app.get("/api/about")
    async def tell_about() -> About:
        return about

    @app.get("/api/alive", status_code=204)
    async def tell_that_it_is_there() -> None:
        """Answer a page that asks, during a call, whether the server is still there."""

    @app.post("/api/offer")
    async def offer(request: SmallWebRTCRequest) -> dict[str, str]:
        if "m=audio" not in request.sdp:
            raise HTTPException(400, "The offer has no audio.")
        try:
            answer = await calls.answer(request)
        except HTTPException:
            raise
        except ChoiceError as error:
            raise HTTPException(400, str(error)) from None
        except Exception as error:
            # aiortc raises all kinds of exceptions for a description that it cannot parse.
            logger.warning(f"Offer refused: {repr(error)[:200]}")
            raise HTTPException(400, "The offer cannot be read.") from None
        if answer is None:
            raise HTTPException(400, "The offer cannot be answered.")
        return answer

    @app.patch("/api/offer")
    async def candidates(request: SmallWebRTCPatchRequest) -> dict[str, str]:
        await calls.add_candidates(request)
        return {"status": "success"}

    _add_recordings(app, recordings)
    if about.prebuilt:
        add_prebuilt(app, offer, candidates)
    app.mount("/", StaticFiles(directory=_STATIC, html=True))
    return app


def _add_recordings(app: FastAPI, recordings: Recordings) -> None:
    """Serve the files of recorded calls, each to whoever knows the id of its call.

    Args:
        app: The application to add them to.
        recordings: Has the calls.
    """

    async def files_of(call_id: str) -> tuple[Path, tuple[str, ...]]:
        call = recordings.get(call_id)
        if call is None:
            raise HTTPException(404, "There is no such call.")
        try:
            return call.folder, await call.files()
        except TimeoutError:
            raise HTTPException(409, "The call goes on.") from None

    @app.get("/api/calls/{call_id}")
    async def list_files(call_id: str) -> dict[str, tuple[str, ...]]:
        return {"files": (await files_of(call_id))[1]}

    @app.get("/api/calls/{call_id}/{name}")
    async def send_file(call_id: str, name: str) -> FileResponse:
        folder, names = await files_of(call_id)
        if name not in names:
            raise HTTPException(404, "There is no such file.")
        # A report is a page with scripts of its own: it is saved, and never shown from here.
        return FileResponse(folder / name, filename=f"hydra-{name}")
