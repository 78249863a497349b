"""The page in a real browser, with a real video or drawn people as camera and as file."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import kinegraph as kg
from conftest import real_data
from kinegraph.video.estimators.movenet import MovenetPoses
from kinegraph.video.pipeline import ActionPipeline
from server.node import runtime_folder
from test_architecture import SOURCE
from video.drawn_people import JUMPER, SQUATTER, write_camera, write_video

pytestmark = pytest.mark.slow
PICTURES = SOURCE.parents[1] / "runs" / "pictures"
ACTION = "clean and jerk"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `kinegraph serve penn-action`, with poses on the server."""
    command = [sys.executable, "-m", "kinegraph", "serve", "penn-action", "--port", "0"]
    environment = os.environ | {"KINEGRAPH_HOME": str(tmp_path_factory.mktemp("home"))}
    server = subprocess.Popen(
        [*command, "--persons", "4"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert server.stdout is not None
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found
        yield found[0]
    finally:
        server.send_signal(signal.SIGTERM)
        server.communicate(timeout=30)
        assert server.returncode == 0


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real video in the format of Chromium's fake camera: a sequence of JPEGs."""
    av = pytest.importorskip("av", reason="THE EXTRA video IS ABSENT")
    path = tmp_path_factory.mktemp("films") / "camera.mjpeg"
    with av.open(str(real_data("videos") / "clean_and_jerk.mp4")) as video, path.open("wb") as out:
        for frame in video.decode(video=0):
            picture = io.BytesIO()
            frame.to_image().save(picture, "JPEG", quality=88)
            out.write(picture.getvalue())
    return path


def browser(film: Path, *options: str):
    """Return a headless Chromium with the film as its camera, which the page may use."""
    return open_browser(
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-video-capture={film}",
        *options,
    )


def open_browser(*options: str):
    """Return a headless Chromium with a fake camera."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="SELENIUM IS ABSENT")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("CHROMIUM OR CHROMEDRIVER IS ABSENT (Debian: apt install chromium-driver)")
    chrome = webdriver.ChromeOptions()
    chrome.binary_location = chromium
    for option in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,960"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--use-fake-device-for-media-stream"),
        *options,
    ):
        chrome.add_argument(option)
    chrome.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    return webdriver.Chrome(options=chrome, service=Service(driver))


def foreign_addresses(driver, address: str) -> set[str]:
    """Return the addresses of other servers that the page requested."""
    logged = " ".join(entry["message"] for entry in driver.get_log("performance"))
    found = set(re.findall(r'"(?:documentURL|url)":"((?:https?|wss?)://[^"/]+)', logged))
    return {one for one in found if one.partition("://")[2] not in address}


def test_takes_teach_a_model_that_is_used_at_once(address, film):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    driver = browser(film)
    try:
        driver.get(address)
        wait = WebDriverWait(driver, 120)

        def click(name: str) -> None:
            driver.find_element(By.ID, name).click()

        def text(name: str) -> str:
            return driver.find_element(By.ID, name).text

        wait.until(lambda _: driver.find_element(By.ID, "camera").is_enabled())
        click("camera")
        wait.until(lambda _: "images/s" in text("state"))
        driver.find_element(By.CSS_SELECTOR, "#teach summary").click()
        for number, action in enumerate(("lift", "lift", "stand", "stand")):
            field = driver.find_element(By.ID, "teach-name")
            field.clear()
            field.send_keys(action)
            click("teach-take")
            time.sleep(3)
            click("teach-take")
            assert text("teach-state") == f"Take of “{action}” recorded."
            assert driver.find_element(By.ID, "teach-now").is_enabled() == (number > 1)
        assert "stand: 2 takes" in text("teach-list")
        click("teach-now")
        wait.until(lambda _: "The model is taught." in text("teach-state"))
        assert "4 takes" in text("teach-state") and text("about") == "taught model: 2 actions"
        click("stop")
        wait.until(lambda _: driver.find_element(By.ID, "restart-camera").is_enabled())
        click("restart-camera")
        names = ("lift", "stand", "unknown")
        wait.until(lambda _: any(name in text("people") for name in names))
        PICTURES.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(PICTURES / "page-teach.png"))
        wrong = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not wrong
    finally:
        driver.quit()


@pytest.mark.parametrize("source", ["camera", "file"])
def test_the_page_shows_the_action(address, film, source):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    dark = ("--blink-settings=preferredColorScheme=0",) if source == "file" else ()
    driver = browser(film, *dark)
    try:
        driver.get(address)
        video = real_data("videos") / "clean_and_jerk.mp4"
        if source == "camera":
            driver.find_element(By.ID, "camera").click()
        else:
            driver.find_element(By.ID, "file").send_keys(str(video))

        def named(_) -> bool:
            return ACTION in driver.find_element(By.ID, "people").text

        WebDriverWait(driver, 90).until(named)
        if source == "file":
            WebDriverWait(driver, 60).until(lambda _: driver.find_element(By.ID, "main").text)
            assert ACTION in driver.find_element(By.ID, "main").text
        else:
            driver.find_element(By.ID, "stop").click()
            WebDriverWait(driver, 20).until(
                lambda _: driver.find_element(By.CSS_SELECTOR, "#rows .segment").is_displayed()
            )
        PICTURES.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(PICTURES / f"page-{source}.png"))
        assert not driver.find_element(By.ID, "notice").text
        wrong = [entry for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
        assert not wrong
        assert not foreign_addresses(driver, address)
    finally:
        driver.quit()


# --------------------------------------------------------------------- poses in the browser


class QuietHandler(SimpleHTTPRequestHandler):
    """A static web server that sends no header but the type of a file."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page below a path, as `kinegraph web` writes it."""
    from kinegraph.server.web_folder import write_web_folder

    runtime_folder()
    pytest.importorskip("onnxscript", reason="THE EXTRA export IS ABSENT")
    root = tmp_path_factory.mktemp("site")
    poses = real_data("pose_models/movenet_multipose") / "movenet_multipose.onnx"
    write_web_folder(kg.load_pretrained("penn-action"), "penn-action", poses, root / "sub" / "demo")
    return root


@contextmanager
def static_server(root: Path) -> Iterator[str]:
    """Serve a folder; yield the address of the page in it."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/sub/demo/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def wait_for(driver, condition, seconds: float = 300):
    """Return what a condition gives once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, seconds).until(lambda _: condition())


def text_of(driver, name: str) -> str:
    """Return the text of an element, also of a hidden one."""
    script = "return document.getElementById(arguments[0]).textContent"
    return str(driver.execute_script(script, name))


def load_page(driver, address: str) -> None:
    """Open the page and wait until it has loaded the model."""
    driver.get(address)
    wait_for(driver, lambda: text_of(driver, "state").startswith("Ready"))
    assert "no image leaves it" in text_of(driver, "privacy")


def results_of(driver) -> dict:
    """Return the object that the page offers as JSON."""
    script = """
        const done = arguments[arguments.length - 1];
        const create = URL.createObjectURL;
        URL.createObjectURL = (blob) => (blob.text().then(done), create(blob));
        document.getElementById("save-json").click();
    """
    return json.loads(driver.execute_async_script(script))


def watch_segments(video: Path, poses: Path) -> list:
    """Return the segments that Python finds with the same pose model."""
    from kinegraph.video.decode import VideoFile
    from kinegraph.video.sources import VideoSource

    estimator = MovenetPoses()
    pipeline = ActionPipeline(kg.load_pretrained("penn-action"), estimator.layout)
    segments = []
    for _, frame in VideoSource(VideoFile(video), estimator).frames():
        segments += pipeline(frame)[1] if frame is not None else []
    return segments + pipeline.finish()


def test_the_browser_finds_the_segments_of_watch_while_its_server_is_stopped(
    site, tmp_path, monkeypatch
):
    from selenium.webdriver.common.by import By

    poses = real_data("pose_models/movenet_multipose") / "movenet_multipose.onnx"
    monkeypatch.setenv("KINEGRAPH_HOME", str(poses.parent))
    video = write_video(tmp_path / "two.mp4", (JUMPER, SQUATTER), 6)
    driver = open_browser("--blink-settings=preferredColorScheme=0")
    try:
        with static_server(site) as address:
            load_page(driver, address)
            assert driver.execute_script("return crossOriginIsolated")  # by the service worker
        driver.find_element(By.ID, "file").send_keys(str(video))
        wait_for(driver, lambda: driver.find_element(By.ID, "main").is_displayed())
        PICTURES.mkdir(parents=True, exist_ok=True)
        driver.save_screenshot(str(PICTURES / "web-two.png"))
        assert not text_of(driver, "notice")
        found, expected = results_of(driver), watch_segments(video, poses)
        assert {s["name"] for s in found["segments"]} == {s.name for s in expected}
        assert any(segment.name == "jumping_jacks" for segment in expected)
        assert len(found["segments"]) == len(expected) >= 2
        for got, segment in zip(
            sorted(found["segments"], key=lambda s: s["name"]),
            sorted(expected, key=lambda s: s.name),
            strict=True,
        ):
            assert got["start"] == pytest.approx(segment.start, abs=0.3)
            assert got["end"] == pytest.approx(segment.end, abs=0.3)
        assert not foreign_addresses(driver, address)
        driver.refresh()  # the files are kept
        wait_for(driver, lambda: "15 actions" in text_of(driver, "about"))
    finally:
        driver.quit()


def test_the_camera_on_a_phone_is_mirrored_and_fits(site, tmp_path):
    from selenium.webdriver.common.by import By

    film = write_camera(tmp_path / "camera.mjpeg", (JUMPER._replace(x=0.3),), 3)
    driver = browser(film)
    try:
        phone = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
        with static_server(site) as address:
            load_page(driver, address)
            driver.find_element(By.ID, "camera").click()
            wait_for(driver, lambda: "images/s" in text_of(driver, "state"))
            wait_for(driver, lambda: "Person 1" in text_of(driver, "rows"))
            assert driver.find_element(By.ID, "mirror").is_selected()
            width = driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= phone["width"]
            PICTURES.mkdir(parents=True, exist_ok=True)
            driver.save_screenshot(str(PICTURES / "web-phone.png"))
            driver.find_element(By.ID, "stop").click()
            wait_for(driver, lambda: driver.find_element(By.ID, "save-csv").is_displayed())
    finally:
        driver.quit()


def test_a_denied_camera_is_explained(site):
    from selenium.webdriver.common.by import By

    driver = open_browser("--deny-permission-prompts")
    try:
        with static_server(site) as address:
            load_page(driver, address)
            driver.find_element(By.ID, "camera").click()
            wait_for(driver, lambda: "To allow it" in text_of(driver, "notice"))
            PICTURES.mkdir(parents=True, exist_ok=True)
            driver.save_screenshot(str(PICTURES / "web-denied.png"))
            assert driver.find_element(By.ID, "file").is_enabled()
    finally:
        driver.quit()
