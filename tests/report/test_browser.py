"""The pages in a real browser without a window: drawn, silent, and by themselves, in both languages, dark and light."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import firstlight as fl
from firstlight import report
from firstlight.report.race import render_race

INSIDE = ("file:", "data:", "blob:")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: apt-get install chromium"),
]
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    folder = tmp_path_factory.mktemp("pages")
    checkup = fl.doctor("mlp:depth=24,width=16,act=tanh,init=torch-default", optimizers=["sgd"], lrs=[0.1], steps=4)
    assert checkup.before.findings
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 3))
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.1)
    diagnosis = fl.diagnose(model, torch.randn(64, 8), target=torch.arange(64) % 3)
    assert diagnosis.findings
    race = fl.race(
        inits=["zeros", "xavier"], optimizers=["adam"], lrs=[0.003, 0.01], seeds=2, steps=30, signals=True, tune=True,
        model="mlp:depth=3,width=16,act=tanh", target_accuracy=0.2,
    )  # fmt: skip
    made: dict[tuple[str, str], Path] = {}
    for lang in report.LANGUAGES:
        texts = {
            "doctor": report.render(checkup, lang),
            "diagnosis": report.render_diagnosis(diagnosis, "net", task="digits", lang=lang),
            "race": render_race(race, lang),
        }
        for name, text in texts.items():
            made[name, lang] = folder / f"{name}-{lang}.html"
            made[name, lang].write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Any, path: Path, *, width: int, scheme: str) -> tuple[Any, list[str]]:
    """Return a page that has drawn its plots, and what it complained of or asked from outside."""
    wrong: list[str] = []
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    page.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: None if request.url.startswith(INSIDE) else wrong.append(request.url))
    page.goto(path.as_uri())
    page.wait_for_function(
        "[...document.querySelectorAll('.js-plotly-plot')].every(p => p.querySelector('.main-svg'))", timeout=20_000
    )
    page.wait_for_timeout(150)
    return page, wrong


@pytest.mark.parametrize("name", ["doctor", "diagnosis", "race"])
@pytest.mark.parametrize("lang", report.LANGUAGES)
@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1200, "light")])
def test_a_page_draws_every_plot_complains_of_nothing_and_fits_the_screen(
    browser: Any, pages: dict[tuple[str, str], Path], name: str, lang: str, width: int, scheme: str
) -> None:
    page, wrong = opened(browser, pages[name, lang], width=width, scheme=scheme)
    assert wrong == []
    assert page.evaluate("document.documentElement.lang") == lang
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = page.locator(".picture .js-plotly-plot").count()
    assert pictures == (1 if name == "race" else page.locator(".finding").count()) >= 1
    boxes = page.evaluate(
        "[...document.querySelectorAll('.js-plotly-plot')].map(p => ({"
        "drawn: p.querySelectorAll('.trace, .hm').length, width: p.getBoundingClientRect().width,"
        "inside: p.querySelector('.main-svg').getBoundingClientRect().width}))"
    )
    assert all(box["drawn"] >= 1 and 250 < box["inside"] <= width and box["width"] <= width for box in boxes), boxes
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (sum(ground) < 150) == (scheme == "dark")
    page.close()


def test_the_check_sees_a_page_that_complains_and_asks_for_something(browser: Any, tmp_path: Path) -> None:
    """The control: without it a browser that ran no script would pass."""
    bad = tmp_path / "bad.html"
    bad.write_text("<script>console.error('broken'); fetch('http://127.0.0.1:9/x').catch(() => 0)</script>")
    page, wrong = opened(browser, bad, width=390, scheme="light")
    assert "broken" in wrong
    assert any(url.startswith("http://127.0.0.1:9") for url in wrong)
    page.close()
