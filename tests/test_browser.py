"""The page in a real headless Chromium: it plays, steers, recovers, and refuses a wrong token."""

import contextlib
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from helios_world.bridge.process import ServerProcess
from helios_world.bridge.server import WorldServer
from helios_world.engine import WorldEngine
from helios_world.testing import GAME_CARD, FakeWorldModel

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "a-long-secret"
PICTURE = "#waking"  # hidden once there is one

pytestmark = [
    pytest.mark.browser,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
]


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        root = os.name == "posix" and os.geteuid() == 0  # the sandbox of Chromium refuses root
        words = ["--disable-gpu", *(["--no-sandbox"] if root else [])]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=words)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server():
    server = ServerProcess(["--fake"])
    server.wait_ready(30)
    yield server
    server.close()


@contextlib.contextmanager
def gateway(address):
    """`with gateway(address) as url:` serves the page beside a server of worlds."""
    words = [sys.executable, "-m", "helios_world", "gateway", "--connect", address, "--port", "0"]
    gateway = subprocess.Popen([*words, "--token", TOKEN], stdout=subprocess.PIPE, text=True)
    try:
        yield re.search(r"http://\S+/", gateway.stdout.readline())[0]
    finally:
        gateway.terminate()
        gateway.wait(10)
        gateway.stdout.close()


@pytest.fixture(scope="module")
def url(server):
    with gateway(server.poll()) as url:
        yield url


@pytest.fixture
def page(chromium, url):
    """The page in a fresh profile; whatever it complains of in the console is a failure."""
    context = chromium.new_context(viewport={"width": 900, "height": 700})
    page, complaints = context.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda told: complaints.append(told.text) if told.type == "error" else None)
    yield page
    context.close()
    assert complaints == []


def enter(page, url, token=TOKEN):
    page.goto(f"{url}#token={token}")
    page.wait_for_selector(PICTURE, state="hidden", timeout=20_000)


def picture(page):
    """The canvas as uint8 (height, width)."""
    script = """() => { const view = document.getElementById("view");
        const data = view.getContext("2d").getImageData(0, 0, view.width, view.height).data;
        return [view.height, view.width, Array.from(data.filter((_, k) => k % 4 === 0))]; }"""
    height, width, values = page.evaluate(script)
    return np.array(values, np.uint8).reshape(height, width)


def bars(page):
    """Where the bright quarter of the fake world is: its middle as an angle, so that it may wrap."""
    columns = picture(page).mean(0).astype(float)
    turns = np.exp(2j * np.pi * np.arange(len(columns)) / len(columns))
    return float(np.angle(((columns - columns.min()) * turns).sum()))


def turned(before, after):
    return (after - before + np.pi) % (2 * np.pi) - np.pi


def figure(page, label):
    """Text of one figure of the panel, as it is now."""
    page.wait_for_timeout(300)
    names = page.locator("#rows dt").all_inner_texts()
    return page.locator("#rows dd").all_inner_texts()[names.index(label)]


def test_it_plays_and_the_picture_changes(page, url):
    enter(page, url)
    first = picture(page)
    assert first.shape == (128, 160) and first.std() > 20, "the bars of the fake world, doubled"
    page.wait_for_timeout(600)
    assert not np.array_equal(first, picture(page))
    page.keyboard.press("F3")
    page.wait_for_timeout(1500)
    assert abs(float(figure(page, "shown").split()[0]) - 17.5) < 4
    assert (figure(page, "status"), figure(page, "seed")) == ("playing", "0")
    assert page.evaluate("location.href") == url, "the token does not stay in the address"


@pytest.mark.parametrize(("key", "way"), [("ArrowLeft", 1), ("ArrowRight", -1)])
def test_a_held_arrow_scrolls_the_bars(page, url, key, way):
    enter(page, url)
    before = bars(page)
    page.keyboard.down(key)
    page.wait_for_timeout(550)
    assert way * turned(before, bars(page)) > 0.5, "3 pixels of 80 a frame"
    page.evaluate("dispatchEvent(new Event('blur'))")
    page.wait_for_timeout(700)
    still = bars(page)
    page.wait_for_timeout(400)
    assert abs(turned(still, bars(page))) < 0.05, "a window that loses the keyboard lets go"


def test_keys_reach_the_pixels_in_time(page, url):
    enter(page, url)
    page.keyboard.press("F3")
    page.wait_for_timeout(1500)
    for k in range(24):
        page.keyboard.down("Space") if k % 2 == 0 else page.keyboard.up("Space")
        page.wait_for_timeout(230 + 13 * (k % 7))
    page.wait_for_timeout(600)
    p50, p95 = map(float, re.findall(r"\d+", figure(page, "key to pixels")))
    print(f"\nkey to painted pixels: p50 {p50:.0f} ms, p95 {p95:.0f} ms; round trip {figure(page, 'round trip')}")
    assert 20 < p50 < 350 and p95 < 700


def test_commands_of_the_page(page, url):
    enter(page, url)
    page.keyboard.press("p")
    page.wait_for_selector("#word", state="visible")
    page.wait_for_timeout(300)
    still = picture(page)
    page.wait_for_timeout(500)
    assert np.array_equal(still, picture(page))
    page.keyboard.press("p")
    page.wait_for_selector("#word", state="hidden")
    page.keyboard.press("r")
    page.wait_for_selector("#place:text-is('fake, seed 1')")
    page.keyboard.press("F1")
    assert "turn left" in page.locator("#sheet").inner_text()
    page.keyboard.press("Escape")
    page.click("#scaling")
    assert picture(page).shape == (64, 80)


def test_a_game_has_a_score_and_an_end(chromium, served):
    with served(WorldServer(WorldEngine(FakeWorldModel(GAME_CARD)))) as address, gateway(address) as url:
        page = chromium.new_page(viewport={"width": 900, "height": 700})
        enter(page, url)
        assert page.locator("#score").inner_text() == "score 0"
        page.keyboard.down("Space")
        page.wait_for_timeout(900)
        page.keyboard.up("Space")
        assert int(page.locator("#points").inner_text()) >= 2
        page.keyboard.down("s")
        page.wait_for_selector("#ending", state="visible")
        page.keyboard.up("s")
        page.wait_for_timeout(400)
        still, total = picture(page), page.locator("#points").inner_text()
        assert page.locator("#over").inner_text() == f"The game is over: score {total}"
        page.wait_for_timeout(500)
        assert np.array_equal(still, picture(page)), "it stands still"
        page.keyboard.press("r")
        page.wait_for_selector("#ending", state="hidden")
        assert page.locator("#score").inner_text() == "score 0"
        page.wait_for_timeout(600)
        assert not np.array_equal(still, picture(page))
        page.close()


def test_a_reload_keeps_the_world(page, url):
    enter(page, url)
    page.keyboard.press("r")
    page.wait_for_selector("#place:text-is('fake, seed 1')")
    page.reload()
    page.wait_for_selector(PICTURE, state="hidden", timeout=20_000)
    page.wait_for_selector("#place:text-is('fake, seed 1')")


def test_a_phone_has_buttons_for_fingers(chromium, url):
    context = chromium.new_context(viewport={"width": 390, "height": 720}, has_touch=True, is_mobile=True)
    page = context.new_page()
    enter(page, url)
    names = page.evaluate("[...document.querySelectorAll('#touch button')].map((b) => b.dataset.button)")
    assert {"forward", "back", "turn_left", "turn_right", "attack", "strafe_left", "strafe_right"} == set(names)
    before = bars(page)
    down = {"pointerId": 5, "isPrimary": True, "pointerType": "touch", "bubbles": True}
    page.evaluate("Element.prototype.setPointerCapture = () => {}")  # there is no finger to capture
    page.dispatch_event("#touch [data-button=turn_left]", "pointerdown", down)
    page.wait_for_timeout(550)
    assert turned(before, bars(page)) > 0.5
    assert page.locator("#touch button.on").count() == 1
    page.dispatch_event("#touch [data-button=turn_left]", "pointerup", down)
    page.wait_for_timeout(100)
    assert page.locator("#touch button.on").count() == 0
    context.close()


def test_a_click_catches_the_mouse_and_moving_it_turns(page, url):
    enter(page, url)
    page.click("#view")
    page.wait_for_function("document.pointerLockElement !== null")
    before = bars(page)
    for step in range(1, 7):
        page.mouse.move(450 - 25 * step, 350)
    page.wait_for_timeout(700)
    assert 0.3 < turned(before, bars(page)) < 2.0
    still = bars(page)
    page.wait_for_timeout(500)
    assert abs(turned(still, bars(page))) < 0.1


def test_a_wrong_token_is_refused_with_a_word_and_the_right_one_is_taken(page, url):
    page.goto(f"{url}#token=guess")
    page.wait_for_selector("#refused:has-text('wrong token')", timeout=10_000)
    page.fill("#gate input", TOKEN)
    page.keyboard.press("Enter")
    page.wait_for_selector(PICTURE, state="hidden", timeout=20_000)
    assert not page.locator("#gate").is_visible()


def test_a_server_that_is_killed_and_back_shows_a_picture_again(page, url, server):
    enter(page, url)
    page.evaluate("""() => { window.paintedAt = [];
        const brush = document.getElementById("view").getContext("2d"), draw = brush.drawImage.bind(brush);
        brush.drawImage = (...words) => { paintedAt.push(performance.now()); draw(...words); }; }""")
    page.wait_for_timeout(1000)
    server.restart()
    page.wait_for_selector("#banner", state="visible", timeout=5000)
    server.wait_ready(30)
    back = page.evaluate("performance.now()")
    page.wait_for_selector("#banner", state="hidden", timeout=5000)
    page.wait_for_timeout(1500)
    after = [at - back for at in page.evaluate("paintedAt") if at > back]
    print(f"\npicture again {after[0]:.0f} ms after the server was back")
    assert after[0] < 1000 and len(after) > 10, "and it goes on"
