"""The page that makes images: what its functions return, and that it works in a browser."""

from __future__ import annotations

import shutil
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ganblocks.errors import DataError, UsageError
from ganblocks.publishing import demo
from ganblocks.publishing.demo import DemoImages, launch, page, serve
from ganblocks.sampling.generate import generate
from ganblocks.sampling.grids import make_grid

WAIT = 60  # seconds, on a busy machine


@pytest.fixture
def images(generator, tmp_path):
    return DemoImages(generator, tmp_path)


def test_samples_are_those_of_the_seeds_truncation_and_class(images, generator):
    c = torch.eye(3)[2]
    expected = make_grid(generate(generator, [5, 6], c=c, truncation_psi=0.5))
    assert np.array_equal(images.sample(5, 2, 0.5, "2"), expected)
    assert not np.array_equal(images.sample(5, 2, 0.5, "1"), expected)
    with pytest.raises(DataError, match="--class 3: there is no such class"):
        images.sample(5, 2, 0.5, "3")


def test_mixing_all_styles_gives_the_source_and_none_the_other_image(images):
    whole = np.asarray(images.mix(1, 2, list(images.groups), 1.0, 0))
    third = (whole.shape[1] - 2 * 2) // 3 + 2
    source, onto, mixed = (whole[:100, column * third : column * third + third - 2] for column in range(3))
    assert np.abs(source.astype(int) - mixed).max() <= 1
    assert np.abs(source.astype(int) - onto).max() > 20
    none = np.asarray(images.mix(1, 2, [], 1.0, 0))[:100, 2 * third : 3 * third - 2]
    assert np.abs(onto.astype(int) - none).max() <= 1


def test_an_interpolation_returns_to_its_first_seed(images):
    files = [images.interpolate(1, 2, 3, 1.0, 0) for _ in range(2)]
    assert len(set(files)) == 2
    with Image.open(files[0]) as animation:
        assert animation.n_frames == 6
        assert animation.size == (512, 512)


def test_without_gradio_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"needs the package gradio: pip install 'ganblocks\[demo\]'"):
        serve(tmp_path / "absent")


@pytest.mark.slow
@pytest.mark.parametrize(("width", "height"), [(1200, 1100), (390, 1000)])
def test_the_page_makes_images_in_a_browser(images, tmp_path, width, height):
    gradio = pytest.importorskip("gradio", reason="gradio is not installed: pip install 'ganblocks[demo]'")
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("no Chromium is installed: apt-get install chromium chromium-driver")
    assert "gradio" in sys.modules
    app = page(images, "digits")
    address = launch(app)
    assert address.startswith("http://127.0.0.1:")
    assert app.share_url is None
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    metrics = {"width": width, "height": height, "pixelRatio": 1.0}
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))

    def source_of(name):
        found = chrome.find_elements(By.CSS_SELECTOR, f"#{name} img")
        return found[0].get_attribute("src") if found else None

    def open_tab(name):
        (tab,) = (each for each in chrome.find_elements(By.XPATH, f"//button[contains(., '{name}')]") if visible(each))
        tab.click()

    def visible(element):
        return element.is_displayed() and element.rect["width"] > 0

    def wait_for(check):
        return WebDriverWait(chrome, WAIT).until(lambda _: check())

    try:
        chrome.get(address)
        first = wait_for(lambda: source_of("samples"))
        seed = chrome.find_element(By.CSS_SELECTOR, "input[aria-label='Seed']")
        seed.clear()
        seed.send_keys("7")
        chrome.find_element(By.ID, "sample").click()
        wait_for(lambda: source_of("samples") not in (None, first))
        chrome.save_screenshot(str(tmp_path / "samples.png"))
        for tab, button, picture in (("Style mixing", "mix", "mixed"), ("Interpolation", "interpolate", "film")):
            if not any(map(visible, chrome.find_elements(By.XPATH, f"//button[contains(., '{tab}')]"))):
                chrome.find_element(By.CSS_SELECTOR, ".overflow-menu > button").click()  # on a narrow page
            open_tab(tab)
            wait_for(lambda button=button: chrome.find_element(By.ID, button).is_displayed())
            chrome.find_element(By.ID, button).click()
            wait_for(lambda picture=picture: source_of(picture))
            chrome.save_screenshot(str(tmp_path / f"{button}.png"))
        with Image.open(tmp_path / "mix.png") as shot:
            assert len(shot.convert("RGB").getcolors(maxcolors=1 << 24)) > 30
    finally:
        chrome.quit()
        app.close()
        gradio.close_all()
