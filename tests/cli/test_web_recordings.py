"""The recordings of the page's calls: who may have which files, and for how long."""

import asyncio
import io
import json
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import soundfile as sf
from support.call import emulator
from support.recordings import tone
from support.web import calling, options, run_in_executor
from support.webrtc import needs_network

import pipecat_hydra.cli.web.recordings
from pipecat_hydra.cli.web.recordings import RecordedCall, Recordings
from pipecat_hydra.cli.web.server import WebServer
from pipecat_hydra.recording import Recording

RATE = 24_000


@pytest.fixture(autouse=True)
def _files_are_read_in_the_executor(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("anyio.to_thread.run_sync", run_in_executor)


async def record(call: RecordedCall, secs: float = 0.5) -> None:
    """Record a call in which the bot says a tone."""
    writer = call.recorder.begin(model="hydra-v1.1")
    writer.note("pipeline", "bot_started")
    writer.heard(time.monotonic(), tone(secs, RATE).tobytes(), RATE, 1)
    await asyncio.sleep(2 * secs)
    writer.note("pipeline", "bot_stopped")
    writer.end("the page hung up")
    await asyncio.to_thread(writer.close)
    call.end()


async def fetched(web: WebServer, path: str, **request: Any) -> tuple[int, Any, bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(web.url + path, **request) as response,
    ):
        return response.status, response.headers, await response.read()


class TestRoutes:
    async def test_the_page_that_knows_the_id_gets_the_files(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            await record(call)
            status, _, text = await fetched(web, f"/api/calls/{call.id}")
            assert status == 200
            assert json.loads(text)["files"] == ["call.wav", "call.json", "report.html"]
            status, headers, audio = await fetched(web, f"/api/calls/{call.id}/call.wav")
            assert status == 200
            assert headers["Content-Type"].startswith("audio/")
            assert headers["Content-Disposition"] == 'attachment; filename="hydra-call.wav"'
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            samples, rate = sf.read(io.BytesIO(audio), dtype="int16")
            assert rate == RATE
            assert samples.shape[1] == 2
            assert abs(samples[:, 0]).max() == 0  # nobody spoke
            assert abs(samples[:, 1]).max() > 5_000

    async def test_what_the_call_came_to_and_its_report(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            await record(call)
            _, headers, text = await fetched(web, f"/api/calls/{call.id}/call.json")
            assert headers["Content-Type"] == "application/json"
            assert len(json.loads(text)["calls"]) == 1
            _, headers, text = await fetched(web, f"/api/calls/{call.id}/report.html")
            # It has scripts of its own, and must not run as a page of this server.
            assert headers["Content-Disposition"] == 'attachment; filename="hydra-report.html"'
            assert headers["Content-Security-Policy"].startswith("default-src 'none'")
            assert text.startswith(b"<!")

    async def test_a_player_may_ask_for_a_part(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            await record(call)
            path = f"/api/calls/{call.id}/call.wav"
            status, _, part = await fetched(web, path, headers={"Range": "bytes=0-3"})
            assert (status, part) == (206, b"RIFF")

    async def test_nobody_else_does(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            await record(call)
            assert len(call.id) >= 24
            for path in (
                "/api/calls",
                "/api/calls/",
                f"/api/calls/{call.id[:-1]}",
                f"/api/calls/{call.id}/call.jsonl",
                f"/api/calls/{call.id}/..%2f..%2fcall.wav",
                f"/api/calls/{call.id}/%2e%2e/{call.id}/x",
                f"/api/calls/..%2f{call.id}/call.wav",
            ):
                assert (await fetched(web, path))[0] in (404, 405), path

    async def test_requests_of_other_sites_are_refused(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            await record(call)
            for path in (
                f"/api/calls/{call.id}",
                f"/api/calls/{call.id}/call.wav",
                "/api/alive",
                "/api/about",
            ):
                for header in ({"Host": "evil.example.org"}, {"Origin": "http://evil.example.org"}):
                    assert (await fetched(web, path, headers=header))[0] == 403, path

    async def test_a_call_that_goes_on(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            assert (await fetched(web, f"/api/calls/{call.id}"))[0] == 409

    async def test_a_page_waits_for_the_end_of_its_call(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            asking = asyncio.create_task(fetched(web, f"/api/calls/{call.id}"))
            await asyncio.sleep(0.5)
            assert not asking.done()
            await record(call)
            assert (await asking)[0] == 200

    async def test_a_call_of_which_nothing_was_recorded(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            call.end()
            status, _, text = await fetched(web, f"/api/calls/{call.id}")
            assert (status, json.loads(text)) == (200, {"files": []})

    async def test_a_recording_that_is_damaged(self):
        async with WebServer(options()) as web:
            call = web.recordings.begin()
            await record(call)
            assert call.recorder.folder is not None
            (call.recorder.folder / "call.jsonl").write_text("nothing")
            status, _, text = await fetched(web, f"/api/calls/{call.id}")
            assert (status, json.loads(text)) == (200, {"files": []})


class TestRecordings:
    async def test_temporary_ones_are_deleted_at_the_end(self):
        with Recordings() as recordings:
            call = recordings.begin()
            await record(call)
            assert await call.files()
            assert call.recorder.folder is not None
            assert call.folder in call.recorder.folder.parents
        assert not call.folder.exists()

    async def test_the_oldest_gives_way(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pipecat_hydra.cli.web.recordings, "_MOST_CALLS", 2)
        with Recordings() as recordings:
            calls = [recordings.begin() for _ in range(3)]
            assert [recordings.get(call.id) for call in calls] == [None, *calls[1:]]
            assert [call.folder.exists() for call in calls] == [False, True, True]

    async def test_those_that_are_kept_stay(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
        monkeypatch.setattr(pipecat_hydra.cli.web.recordings, "_MOST_CALLS", 1)
        with Recordings(tmp_path / "calls") as recordings:
            for _ in range(2):
                call = recordings.begin()
                await record(call)
                assert await call.files()
                assert recordings.place_of(call) == f", recorded in {call.recorder.folder}"
        kept = list((tmp_path / "calls").iterdir())
        assert len(kept) == 2
        assert all({file.name for file in call.iterdir()} >= {"call.jsonl"} for call in kept)
        assert not list((tmp_path / "calls").rglob("*.wav"))

    async def test_no_wav_of_a_very_long_call(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(pipecat_hydra.cli.web.recordings, "_MOST_WAV_SECS", -1.0)
        with Recordings() as recordings:
            call = recordings.begin()
            await record(call)
            assert "call.wav" not in await call.files()


@needs_network
@pytest.mark.realtime
async def test_a_call_is_recorded_and_its_page_is_told_under_which_id(tmp_path: Path):
    announced: list[str] = []
    async with (
        emulator() as hydra,
        WebServer(options(hydra, record=tmp_path / "calls"), announced.append) as web,
    ):
        async with calling(web) as browser:
            await browser.until("bot-stopped-speaking")
        told = [told for told in browser.data("server-message") if told["type"] == "recording"]
        assert len(told) == 1
        assert 0 < told[0]["secs"] < 30
        status, _, text = await fetched(web, f"/api/calls/{told[0]['id']}")
        assert (status, json.loads(text)) == (
            200,
            {"files": ["call.wav", "call.json", "report.html"]},
        )
        (folder,) = (tmp_path / "calls").iterdir()
        assert announced[-1].endswith(f" s, recorded in {folder}")
        recorded = Recording.open(folder)
        assert recorded.is_complete
        assert recorded.heard_track().samples.max() > 1_000
        text = (folder / "call.jsonl").read_text()
        assert hydra.api_key not in text
        assert told[0]["id"] not in text
