"""What OpenAPI is told beyond what the routes say themselves."""

from __future__ import annotations

from typing import Any

from kinegraph.server.uploads import JSON, NPZ

_ERROR = {
    "application/json": {
        "schema": {
            "type": "object",
            "properties": {"error": {"type": "string"}},
            "required": ["error"],
        }
    }
}
_SENTENCES = {
    400: "What was sent is no clip, or does not fit the model.",
    401: "The server asks for its token.",
    403: "Pages of other sites may not speak to this server.",
    408: "The body came too slowly.",
    413: "The body or the clip is too long.",
    415: "The body is of another kind.",
    421: "The server answers to localhost alone.",
    422: "An option is wrong.",
    429: "Too many clips wait; come back.",
    503: "The server is about to end; come back.",
}
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"description": sentence, "content": _ERROR} for status, sentence in _SENTENCES.items()
}
TEXT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Figures."}
}
_NUMBERS = {
    "description": "Numbers; null where a joint is not seen.",
    "type": "array",
    "items": {"type": "array", "items": {}},
}
PREDICT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["joints"],
                    "additionalProperties": False,
                    "properties": {
                        "joints": {
                            **_NUMBERS,
                            "description": "(frames, joints, coordinates), or with persons before "
                            "them; null where a joint is not seen.",
                        },
                        "confidence": {**_NUMBERS, "description": "As joints, a number each."},
                        "fps": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000},
                        "layout": {"type": "string"},
                        "id": {"type": "string"},
                        "meta": {
                            "type": "object",
                            "additionalProperties": {"type": ["string", "number", "boolean"]},
                        },
                    },
                }
            },
            NPZ: {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
