"""The page in a real browser, with a real video as camera and as file."""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import real_data
from test_architecture import SOURCE

pytestmark = pytest.mark.slow
PICTURES = SOURCE.parents[1] / "runs" / "pictures"
ACTION = "clean and jerk"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The address of `kinegraph serve penn-action`."""
    command = [sys.executable, "-m", "kinegraph", "serve", "penn-action", "--port", "0"]
    server = subprocess.Popen([*command, "--persons", "4"], stdout=subprocess.PIPE, text=True)
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
    """Return a headless Chromium with the film as its camera."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="SELENIUM IS ABSENT")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("CHROMIUM OR CHROMEDRIVER IS ABSENT (Debian: apt install chromium-driver)")
    chrome = webdriver.ChromeOptions()
    chrome.binary_location = chromium
    for option in (
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,960"),
        *("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"),
        f"--use-file-for-fake-video-capture={film}",
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
