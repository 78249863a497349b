"""`kinegraph watch` with URLs, standard output, and several sources."""

from __future__ import annotations

import json
import signal
import threading
import time

import pytest

from cli.test_cli import run
from kinegraph.video import sources
from video.synthetic_videos import GrayLevelEstimator, gray_level, picture, require_av, write_video
from video.video_servers import send_jpegs, serving

require_av()


@pytest.fixture(autouse=True)
def estimator(monkeypatch):
    """Estimate poses by gray levels."""
    monkeypatch.setattr(sources, "load_estimator", lambda _, people: GrayLevelEstimator(people))


def film(path, label, seconds=4):
    """Write a video that shows an action at 10 frames/s."""
    return write_video(path, [picture(gray_level(label))] * (10 * seconds), fps=10)


def events_of(path):
    """Return (source, name) of each event."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return sorted((line["source"], line["name"]) for line in lines)


def test_each_source_has_its_own_timeline_and_events(capsys, tmp_path, tiny_run):
    (tmp_path / "b").mkdir()
    first, second = film(tmp_path / "a.ts", 0), film(tmp_path / "b" / "a.ts", 2)
    served = film(tmp_path / "c.ts", 1)
    events = tmp_path / "events.jsonl"
    with serving(tmp_path) as (url, _):
        secret = url.replace("//", "//user:secret@") + "/c.ts?key=secret"
        words = (first, second, secret, "--model", tiny_run, "--events", events)
        code, out, err = run(capsys, "watch", *words)
        assert (code, err) == (0, "")
        expected = {"a.ts": "here", "a.ts (2)": "away", f"{url}/{served.name}": "there"}
        assert events_of(events) == sorted(expected.items())
        for name, action in expected.items():
            own = [line for line in out.splitlines() if line.startswith((f"{name}  ", f"{name}: "))]
            assert len(own) == 2 and all(action in line for line in own)
            assert "0.0 s -     4.0 s  person 1" in own[0] and "dominant action" in own[1]
        code, out, _ = run(capsys, "watch", *words, "--json")
    results = [json.loads(line) for line in out.splitlines()]
    assert {one["source"]: one["main"]["name"] for one in results} == expected
    assert code == 0 and all(one["segments"] for one in results)
    assert "secret" not in out + err + events.read_text()


def test_the_other_sources_go_on_without_one_that_fails(capsys, tmp_path, tiny_run):
    words = (film(tmp_path / "a.ts", 0), "http://u:secret@127.0.0.1:9/x", tmp_path / "absent.mp4")
    code, out, err = run(capsys, "watch", *words, "--model", tiny_run)
    assert code == 2 and "a.ts: dominant action: here" in out and "secret" not in err
    said = sorted(err.splitlines())
    assert len(said) == 2 and f"{tmp_path / 'absent.mp4'}: expected a video" in said[0]
    assert said[1].startswith("kinegraph: http://127.0.0.1:9/x cannot be opened as a video: Conn")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a.ts", "a.ts"], "expected different sources, got a.ts more than once"),
        (["-", "-"], "expected different sources, got standard input more than once"),
        (["a.ts", "b.ts", "--out", "o.mp4"], "o.mp4 can show one source only, got 2"),
        (["a.ts", "--json", "--events", "-"], "both write to standard output"),
        (["ftp://u:secret@h/a", "a.ts"], "begins with one of rtsp://"),
    ],
)
def test_sources_that_cannot_be_are_one_sentence(capsys, tiny_run, words, said):
    code, out, err = run(capsys, "watch", *words, "--model", tiny_run)
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1
    assert "secret" not in err


def test_events_of_standard_output_are_nothing_but_events(capsys, tmp_path, tiny_run):
    words = (film(tmp_path / "a.ts", 0), "--model", tiny_run, "--events", "-")
    code, out, err = run(capsys, "watch", *words)
    (event,) = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "") and (event["source"], event["name"]) == ("a.ts", "here")


def test_a_url_is_drawn_from_its_own_frames(capsys, tmp_path, tiny_run):
    film(tmp_path / "a.ts", 0)
    out, page = tmp_path / "o.mp4", tmp_path / "p.html"
    with serving(tmp_path) as (url, server):
        words = (f"{url}/a.ts?secret", "--model", tiny_run, "--out", out, "--page", page)
        code, _, _ = run(capsys, "watch", *words)
        asked = len(server.requests)
    assert code == 0 and page.read_text().count("data:image/jpeg") == 1
    assert f"{url}/a.ts" in page.read_text() and "secret" not in page.read_text()
    assert sources.VideoFile(out).duration == pytest.approx(4, abs=0.15) and asked <= 4


def test_a_lost_source_has_its_results_and_exit_code_2(capsys, tmp_path, tiny_run):
    content = film(tmp_path / "a.ts", 0).read_bytes()
    with serving(tmp_path) as (url, server):
        server.answers["/live"] = lambda request: (
            request.wfile.write(content) if server.requests.count("/live") == 1 else None
        )
        words = (f"{url}/live", "--model", tiny_run, "--reconnect", "0.2", "--json")
        code, out, err = run(capsys, "watch", *words)
    assert code == 2 and json.loads(out)["main"]["name"] == "here"
    assert "the connection was lost after 3.9 s and could not be restored within 0.2 s" in err


def test_a_live_source_ends_after_the_given_seconds_even_if_it_is_silent(
    capsys, tmp_path, tiny_run
):
    send = send_jpegs([picture(gray_level(1))] * 30, 0.02)

    def answer(request):
        send(request)
        time.sleep(6)

    with serving(tmp_path) as (url, server):
        server.answers["/live"] = answer
        server.types["/live"] = "multipart/x-mixed-replace;boundary=frame"
        begun = time.monotonic()
        words = (f"{url}/live", "--model", tiny_run, "--seconds", "1.5", "--json")
        code, out, _ = run(capsys, "watch", *words)
        assert code == 0 and time.monotonic() - begun < 5.5
    assert json.loads(out)["main"]["name"] == "there"


@pytest.fixture
def _listens_to_ctrl_c():
    """A process in the background of a shell may have been started without it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_listens_to_ctrl_c")
def test_ctrl_c_ends_several_sources_with_their_results(capsys, tmp_path, tiny_run):
    with serving(tmp_path) as (url, server):
        for name in ("/a", "/b"):
            server.answers[name] = send_jpegs([picture(gray_level(1))] * 400, 0.02)
            server.types[name] = "multipart/x-mixed-replace;boundary=frame"
        main = threading.main_thread().ident

        def interrupt() -> None:
            while {"/a", "/b"} - set(server.requests):
                time.sleep(0.05)
            time.sleep(2)
            signal.pthread_kill(main, signal.SIGINT)

        threading.Thread(target=interrupt, daemon=True).start()
        words = (f"{url}/a", f"{url}/b", "--model", tiny_run, "--json")
        code, out, err = run(capsys, "watch", *words)
    results = [json.loads(line) for line in out.splitlines()]
    assert code == 0 and [one["main"]["name"] for one in results] == ["there"] * 2, err
