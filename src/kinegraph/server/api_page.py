"""The page /docs: the interface of the server as HTML, without scripts and other sites."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, select_autoescape

from kinegraph.server.message_schemas import MESSAGES, message_schemas


def render_api_page(openapi: dict[str, Any]) -> str:
    """Render an OpenAPI description, and the messages of the websockets, as HTML."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(loader=loader, autoescape=select_autoescape(["jinja"]))
    template = environment.get_template("api_page.html.jinja")
    messages = {websocket: message_schemas(websocket) for websocket in MESSAGES}
    return template.render(api=openapi, messages=messages)
