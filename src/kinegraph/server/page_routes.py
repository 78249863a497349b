"""The routes of the page: its files, and the model for browsers that estimate poses themselves."""

from __future__ import annotations

import asyncio
import tempfile
from concurrent.futures import BrokenExecutor, ProcessPoolExecutor
from http import HTTPStatus
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

from kinegraph.errors import KinegraphError, ServerError
from kinegraph.inference.recognizer import Recognizer
from kinegraph.processes import start_pool_worker
from kinegraph.server.errors import RequestRejectedError
from kinegraph.server.service import Service
from kinegraph.server.web_folder import PAGE, missing_for_browser, page_info
from kinegraph.server.web_model import MODEL_FILES, describe_model, write_web_model
from kinegraph.server.ws_video import missing_requirement
from kinegraph.video.estimators.base import movenet_path

EXPORT_NICENESS = 10


class BrowserModel:
    """The model's files for browsers, written by another process when a page first asks for them.

    Args:
        recognizer: the model.
    """

    def __init__(self, recognizer: Recognizer) -> None:
        self._recognizer = recognizer
        self._folder = tempfile.TemporaryDirectory(prefix="kinegraph-page-")
        self._lock = asyncio.Lock()
        self._is_written = False
        self._requirement: list[str | None] = []

    async def requirement(self) -> str | None:
        """Return why browsers cannot estimate poses for this model; None if they can."""
        async with self._lock:
            if not self._requirement:
                self._requirement = [await asyncio.to_thread(self._find_requirement)]
        return self._requirement[0]

    async def file(self, name: str) -> Path:
        """Return a file of the model.

        Raises:
            RequestRejectedError: there is no such file, or browsers cannot use the model.
        """
        if name not in MODEL_FILES:
            raise RequestRejectedError(f"unknown file {name!r}", HTTPStatus.NOT_FOUND)
        if requirement := await self.requirement():
            raise RequestRejectedError(requirement, HTTPStatus.NOT_IMPLEMENTED)
        folder = Path(self._folder.name)
        async with self._lock:
            if not self._is_written:
                await self._write(folder)
                self._is_written = True
        return folder / name

    def _find_requirement(self) -> str | None:
        try:
            describe_model(self._recognizer, ())
        except KinegraphError as error:
            return str(error)
        return missing_for_browser(movenet_path())

    async def _write(self, folder: Path) -> None:
        loop = asyncio.get_running_loop()
        arguments = self._recognizer, movenet_path(), folder
        # threads do not survive a fork
        process = ProcessPoolExecutor(
            1, get_context("spawn"), start_pool_worker, (EXPORT_NICENESS,)
        )
        try:
            await loop.run_in_executor(process, write_web_model, *arguments)
        except (TypeError, AttributeError, BrokenExecutor) as error:
            raise ServerError(
                f"the model cannot be exported by another process: {error}"
            ) from error
        finally:
            process.shutdown(wait=False)


def add_page(app: FastAPI, service: Service) -> None:
    """Add the page, what it states of the model, and the model's files."""
    model = BrowserModel(service.recognizer)
    app.mount("/page", StaticFiles(directory=PAGE))

    @app.get("/", include_in_schema=False)
    async def index() -> FileResponse:
        return FileResponse(PAGE / "index.html")

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(PAGE / "icon.svg")

    @app.get("/page.json", include_in_schema=False)
    async def info() -> dict[str, Any]:
        browser, server = await model.requirement(), missing_requirement()
        return page_info(service.recognizer, service.name, browser, server, offline=False)

    @app.get("/model/{name}", include_in_schema=False)
    async def model_file(name: str) -> FileResponse:
        return FileResponse(await model.file(name))
