"""The report in a real browser: it sorts, filters, follows a run, and asks for nothing."""

import json
import re

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import expect

from results.record import Attempt, Epoch, PlanRow
from results.report import data
from results.report import page as pages
from results.store import Store
from tests.browser import pictures
from tests.served import served

pytestmark = pytest.mark.browser
HOSTILE = "<img src=x onerror=alert(1)></script>"
VARIANTS = {"linear": 0.4, "lora[rank=8]": 0.9, "ia3": 0.7, HOSTILE: 0.6}
DIGEST = "0123456789abcdef"


def commit(store, run_id, variant, dataset, seed, score):
    common = {"variant": variant, "backbone": "vit", "dataset": dataset, "seed": seed}
    place = {"device": "a CPU", "versions": {"torch": "2"}, "git_commit": "abc"}
    if score is None:
        failed = {"status": "failed", "failure_kind": "worker_lost", "error": HOSTILE}
        store.commit(Attempt(run_id=run_id, attempt=1, evidence="trace", **failed, **common))
        return
    epochs = [
        Epoch(run_id=run_id, attempt=1, epoch=n, split=s, loss=2 / n + off, top1=score * n / 8)
        for n in range(1, 9)
        for s, off in (("train", 0), ("val", 0.1))
    ]
    metrics = {"test/top1": score, "val/top1": score}
    measured = {"epoch_seconds": 1.5, "trainable_params": 1000, "total_params": 20000}
    ended = {"status": "succeeded", "metrics": metrics, "best_epoch": 7}
    store.commit(Attempt(run_id=run_id, attempt=1, **ended, **measured, **common, **place), epochs)


@pytest.fixture
def store(tmp_path):
    made = Store.open(tmp_path / "store", create=True)
    rows = []
    for variant, base in VARIANTS.items():
        for dataset, less in (("mnist", 0.0), ("shapes", 0.2)):
            for seed in range(3):
                at = len(rows)
                spec = {"method": {"name": variant}, "train": {"lr": 0.003}, "seed": seed}
                identity = {"run_id": f"run{at:03}", "config_id": f"{variant}{dataset}"}
                place = {"backbone": "vit", "dataset": dataset, "seed": seed, "variant": variant}
                cell = {"stage": "single", "spec": json.dumps(spec), "position": at}
                rows.append(PlanRow(suite="demo", suite_digest=DIGEST, **identity, **place, **cell))
                if at == 7:
                    continue
                score = None if at == 20 else base - less + 0.01 * seed
                commit(made, f"run{at:03}", variant, dataset, seed, score)
    text = "# Question: What?\nquestion: Which small change to a frozen ViT goes furthest?\n"
    made.save_plan("demo", DIGEST, text, rows)
    return made


@pytest.fixture
def html(store, tmp_path):
    path = tmp_path / "report.html"
    path.write_text(pages.html(data.read(store, "demo", provenance={"store": "store"})))
    return path


@pytest.fixture
def opened(page, html):
    """The page over a file, with nothing asked for but the file."""
    page.goto(html.as_uri())
    yield page
    assert {url.partition("#")[0] for url in page.requests} - {"data:,"} == {html.as_uri()}


def test_the_pictures_of_the_docs_can_be_taken(chromium, html, tmp_path):
    taken = [Image.open(path) for path in pictures.take(chromium, html, tmp_path)]
    assert [image.size for image in taken] == [(pictures.WIDTH, pictures.HEIGHT)] * 3
    day, night, run = (image.convert("L") for image in taken)
    assert day.getpixel((5, 400)) > 200 > 80 > night.getpixel((5, 400))
    assert ImageChops.difference(day, run).getbbox() is not None


def names(page, place="#board-body"):
    return page.locator(f"{place} tbody th").all_inner_texts()


def test_columns_sort_by_the_keyboard(opened):
    # Best mean first; what has none stands below in the plan's order.
    assert names(opened) == ["ia3", "linear", "lora[rank=8]", HOSTILE]
    head = opened.locator("#board-body thead th", has_text="variant")
    assert head.get_attribute("aria-sort") == "none"
    head.locator("button").focus()
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "ascending"
    assert names(opened) == sorted(VARIANTS)
    opened.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    score = opened.locator("#board-body thead th", has_text="mnist")
    score.locator("button").click()
    assert score.get_attribute("aria-sort") == "descending"
    assert names(opened) == sorted(VARIANTS, key=VARIANTS.get, reverse=True)


def test_rows_filter_by_text(opened):
    opened.get_by_label("Filter rows").fill("ia3")
    assert names(opened) == ["ia3"]
    assert "1 of 4 rows" in opened.locator("#board-body .shown").inner_text()
    assert opened.locator("#plot g[role=img]").count() == 1


def test_hostile_text_is_shown_as_text(opened):
    assert HOSTILE in names(opened)
    assert HOSTILE in opened.locator("#failures-body .error").inner_text()
    assert opened.locator("img").count() == 0


def test_a_variant_leads_to_its_runs_and_a_run_to_its_page(opened):
    # The page follows its address a moment after the click, so what comes of one is waited for.
    opened.locator("#board-body a", has_text="lora").click()
    expect(opened.get_by_label("Filter runs")).to_have_value("lora[rank=8]")
    assert len(names(opened, "#runs-body")) == 6
    opened.locator("#runs-body a", has_text="run006").click()
    expect(opened.locator("#overview")).to_be_hidden()
    view = opened.locator("#run")
    assert opened.locator("#run-title").inner_text() == "lora[rank=8] on mnist, seed 0"
    assert view.locator("svg").count() == 2
    assert "peftgrid explain run006 --store store" in view.inner_text()
    assert "torch 2" in view.inner_text()
    opened.go_back()
    expect(opened.locator("#overview")).to_be_visible()


def test_a_failed_run_shows_its_error_and_evidence(opened):
    opened.locator("#failures-body a").click()
    view = opened.locator("#run")
    expect(view).to_be_visible()
    assert HOSTILE in view.locator(".error").inner_text()
    assert "Attempt 1: failed: worker lost" in view.inner_text()
    view.locator("summary", has_text="Evidence").click()
    assert view.locator("pre").first.inner_text() == "trace"


def test_points_have_tooltips_for_mouse_and_keyboard(opened):
    tip = opened.locator("#tip")
    opened.locator("#plot g[role=img]").first.focus()
    expect(tip).to_have_text(re.compile(r"mean 0\.\d{4}\n95 %: 0\."))
    opened.mouse.wheel(0, 40)
    opened.wait_for_function("scrollY > 0")
    expect(tip).to_be_visible()
    opened.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    opened.get_by_role("combobox", name="Data set").select_option("=mnist")
    opened.locator("#plot .dot").first.hover()
    expect(tip).to_have_text(re.compile(r"mnist, seed \d: 0\.\d{4}\nrun run\d+"))


def test_runs_filter_by_status(opened):
    opened.locator("#runs-body select").select_option("queued")
    assert names(opened, "#runs-body") == ["run007"]


def test_the_skip_link_is_first_and_leads_to_the_content(opened):
    opened.keyboard.press("Tab")
    assert opened.evaluate("document.activeElement.textContent") == "Skip to the content"
    opened.keyboard.press("Enter")
    expect(opened.locator("#main")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_of_wcag_aa(opened, scheme):
    opened.emulate_media(color_scheme=scheme)
    colours = opened.evaluate(
        """() => { const style = getComputedStyle(document.documentElement);
        return Object.fromEntries(['ground', 'panel', 'ink', 'quiet', 'accent', 'bad', 'good', 'second']
            .map((name) => [name, style.getPropertyValue('--' + name).trim()])); }"""
    )

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for ground in ("ground", "panel"):
        for ink in colours.keys() - {"ground", "panel"}:
            light, dark = sorted((luminance(colours[n]) for n in (ground, ink)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (ground, ink)


def test_a_served_page_follows_the_store_and_keeps_what_was_typed(page, store):
    with served(store, "demo") as url:
        page.goto(url)
        page.get_by_label("Filter rows").fill("lora")
        assert "22 succeeded" in page.locator("#state-body").inner_text()
        commit(store, "run007", "lora[rank=8]", "mnist", 1, 0.91)
        page.locator("#state-body", has_text="23 succeeded").wait_for(timeout=20_000)
        assert names(page) == ["lora[rank=8]"]
        expect(page.locator("#live")).to_contain_text("Live")
        assert all(asked.startswith((url, "data:")) for asked in page.requests)
        page.goto("about:blank")
