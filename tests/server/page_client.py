"""A client in Python, written from docs/serving.md alone: it imports nothing of kinegraph.

Usage: page_client.py HOST:PORT TOKEN. Standard input is a JSON object: person -> frames. Prints the
last answer of each person and the number of connections, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

AGAIN = (1001, 1012, 1013)


def read_model(host: str, token: str) -> dict:
    """Return what the server states of its model."""
    headers = {"Authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"http://{host}/v1/model", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


async def stream(socket, people: dict[str, list]) -> dict[str, dict]:
    """Send the frames of all persons side by side; return the last answer of each."""
    last: dict[str, dict] = {}

    async def send() -> None:
        for t in range(max(map(len, people.values()))):
            frames = [
                {"person": name, "time": t / 30, "joints": frames[t]}
                for name, frames in people.items()
                if t < len(frames)
            ]
            await socket.send(json.dumps(frames))
            await asyncio.sleep(1 / 30)
        await socket.send(json.dumps([{"person": name, "end": True} for name in people]))

    sending = asyncio.create_task(send())
    try:
        async for text in socket:
            answer = json.loads(text)
            if "error" in answer:
                print(answer, file=sys.stderr)
            elif answer.get("end"):
                last[answer["person"]] = answer
                if len(last) == len(people):
                    return last
    finally:
        sending.cancel()
    raise ConnectionError("closed before the last answer")


async def main(host: str, token: str) -> None:
    """Stream until all persons have ended."""
    model, people = read_model(host, token), json.load(sys.stdin)
    joints, coordinates = len(model["layout"]["joints"]), model["coordinates"]
    for frames in people.values():
        if any((len(f), len(f[0])) != (joints, coordinates) for f in frames):
            raise ValueError(f"expected frames of {joints} joints x {coordinates} coordinates")
    connections = 0
    headers = {"Authorization": f"Bearer {token}"}
    async for socket in connect(f"ws://{host}/v1/stream?logits=true", additional_headers=headers):
        connections += 1
        try:
            last = await stream(socket, people)
        except (ConnectionClosed, ConnectionError):
            if socket.close_code in AGAIN:
                continue
            raise
        await socket.close()
        print(json.dumps({"last": last, "connections": connections}))
        return


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
