"""A traced step of a small GPT, and a headless browser where there is one."""

import shutil

import numpy as np
import pytest

import tinygrad_llm as tg


class Step:
    """A model, its traced training step and the explorer's page of it."""

    def __init__(self, folder):
        tg.manual_seed(0)
        config = tg.nn.GPTConfig(
            vocab_size=17, context_length=6, n_layer=2, n_head=2, n_embd=8, dropout=0.1
        )
        self.model = tg.nn.GPT(config)
        self.ids, self.targets = np.random.default_rng(0).integers(0, 17, (2, 2, 6))
        with tg.trace(values=True) as self.trace:
            self.loss = self.model.loss(self.ids, self.targets)
            self.loss.backward()
        self.gradients = {name: p.grad.copy() for name, p in self.model.named_parameters()}
        self.path = tg.explore(self.trace, folder / "step.html", model=self.model)


@pytest.fixture(scope="session")
def step(tmp_path_factory):
    return Step(tmp_path_factory.mktemp("explorer"))


def open_browser(width, height, phone=False):
    """Headless Chromium through its driver, or skip the test with the reason."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not binary or not driver:
        pytest.skip("no Chromium with chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={width},{height}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if phone:
        metrics = {"width": width, "height": height, "pixelRatio": 2.0, "touch": True}
        options.add_experimental_option("mobileEmulation", {"deviceMetrics": metrics})
    return webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))


@pytest.fixture(scope="session")
def browser():
    driver = open_browser(1300, 950)
    yield driver
    driver.quit()


@pytest.fixture
def phone():
    driver = open_browser(390, 780, phone=True)
    yield driver
    driver.quit()
