"""The demo on a small part of the real task with the real encoder, and the page that it writes."""

import copy
import json
import re
import warnings
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from xlt_tutorial import report
from xlt_tutorial.demo import WIDTH, demo_text, run_demo, scores_text
from xlt_tutorial.tasks import Languages, ParallelTask
from xlt_tutorial.training import Recipe

HOSTILE = '</script><script>alert("text")</script><img src=https://example.org/x.png onerror=alert(1)>'
LAYERS = [0, 12]


def small(task: ParallelTask) -> ParallelTask:
    """64 English training names, 60 test concepts in four languages, and markup wherever text comes from data."""

    def cut(split, language, data):
        count = {"train": 64, "dev": 10, "test": 60}[split]
        data = data.select(np.linspace(0, len(data) - 1, count).astype(int))
        if (split, language) == ("test", "de"):
            data = data.map(lambda row, i: {"text": HOSTILE if i == 0 else row["text"]}, with_indices=True)
        return data

    task = task.only(["de", "zh", "ar"])
    splits = {s: Languages((t, cut(s, t, d)) for t, d in task[s].items()) for s in task.splits}
    labels = ("<b>label</b>", *task.labels[1:])
    return replace(task, name="<i>emoji</i>", splits=splits, labels=labels)


@pytest.fixture(scope="module")
def demo(emoji_task, full_encoder, tmp_path_factory):
    """Results and folder of one small demo."""
    out = tmp_path_factory.mktemp("demo")
    recipe = Recipe(epochs=1, max_length=12, share_every=2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The term")  # inert, as the report says
        results = run_demo(out, progress=False, task=small(emoji_task), recipe=recipe, layers=LAYERS, concepts=60)
    return results, out


@pytest.fixture
def results(demo):
    return copy.deepcopy(demo[0])


@pytest.fixture(scope="module")
def page(demo):
    return (demo[1] / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags with their attributes, and the text outside scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags, self.text, self._inside = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = ""

    def handle_data(self, data):
        if self._inside not in ("script", "style"):
            self.text.append(data)

    def plain(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_results_hold_what_was_run(demo):
    results, out = demo
    assert json.loads((out / "results.json").read_text(encoding="utf-8")) == json.loads(json.dumps(results))
    assert results["finished"]
    for key in ("versions", "platform", "seconds", "peak_memory_mb", "gain", "gain_note", "seed"):
        assert results[key] is not None
    assert results["peak_memory_mb"] > 500
    assert {"load", "vanilla_train", "ear_train", "vanilla_test", "ear_test", "map", "report"} < set(results["seconds"])
    vanilla, ear = (results["settings"][method] for method in ("vanilla", "ear"))
    assert vanilla["recipe"] == ear["recipe"] and vanilla["seed"] == ear["seed"] == 0
    assert vanilla["objective"]["streams"] == ear["objective"]["streams"] == 2
    assert ear["objective"]["weights"] == {"ce": 1.0, "robust": 1.0, "push": 0.1, "pull": 1.0}
    assert (ear["objective"]["push"], ear["objective"]["pull"], ear["objective"]["layer"]) == (
        "published",
        "published",
        5,
    )
    assert ear["objective"]["pad_to"] == 12
    assert ear["maker"]["name"] == "neighbours" and vanilla["maker"] is None
    assert vanilla["encoder"]["source"] == "wheel"
    for method in ("vanilla", "ear"):
        assert results[method]["steps"] == len(results[method]["history"]) == 2
        assert results[method]["selected"]["rule"] == "last"
        assert sum(results[method]["gradient_shares"].values()) == pytest.approx(1)


def test_means_and_gain_follow_from_the_accuracies(results):
    means = {}
    for method in ("vanilla", "ear"):
        accuracy = results[method]["accuracy"]
        assert list(accuracy) == ["en", "de", "zh", "ar"]
        assert all(value * 60 == pytest.approx(round(value * 60)) for value in accuracy.values())
        means[method] = (accuracy["de"] + accuracy["zh"] + accuracy["ar"]) / 3
        assert results[method]["target_mean"] == pytest.approx(means[method])
    assert results["gain"] == pytest.approx(means["ear"] - means["vanilla"])
    assert "one seed" in results["gain_note"]


def test_alignment_is_measured_before_and_after_each(results):
    for state in ("before", "vanilla", "ear"):
        assert [row["layer"] for row in results[state]["alignment"]] == LAYERS
        for row in results[state]["alignment"]:
            assert row["concepts"] == 60
            targets = [row["gap_ratio"][language] for language in ("de", "zh", "ar")]
            assert row["gap_ratio"]["mean"] == pytest.approx(np.mean(targets))
            assert {"knn_mixing", "p1", "silhouette", "language_probe"} < set(row)
    assert results["before"]["alignment"] != results["ear"]["alignment"] != results["vanilla"]["alignment"]


def test_report_loads_nothing_and_escapes_what_comes_from_data(page):
    tags = Page(page).tags
    names = [tag for tag, _ in tags]
    assert not {"img", "iframe", "link", "object", "embed", "i", "b"} & set(names)
    assert not [attrs for _, attrs in tags if {"src", "href", "onerror", "onload"} & set(attrs)]
    policy = next(attrs["content"] for _, attrs in tags if attrs.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'") and "http" not in policy
    assert page.count(HOSTILE) == 0
    assert "<i>emoji</i>" in Page(page).plain() and "&lt;i&gt;emoji&lt;/i&gt;" in page
    # plotly.js once, then one script for each figure
    assert names.count("script") == 4 and len(page) < 7_000_000
    assert sum(len(part) > 1_000_000 for part in page.split("</script>")) == 1


def test_report_can_be_read_aloud(page):
    tags = Page(page).tags
    assert ("html", {"lang": "en"}) in tags
    headings = [tag for tag, _ in tags if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1", "h2", "h2", "h2", "h2"]
    assert all("scope" in attrs for tag, attrs in tags if tag == "th")
    groups = [attrs for _, attrs in tags if attrs.get("role") == "group"]
    assert len(groups) == 5 and all(attrs["aria-label"] for attrs in groups)
    assert [tag for tag, _ in tags].count("figcaption") == 3


def test_report_says_what_the_numbers_say(results, page):
    text = Page(page).plain()
    for method in ("vanilla", "ear"):
        for value in [*results[method]["accuracy"].values(), results[method]["target_mean"]]:
            assert f"{100 * value:.1f}" in text
        for share in results[method]["gradient_shares"].values():
            assert f"{share:.2%}" in text
    assert report.bars_sentence(results) in text
    assert report.map_sentence(results, 12, 60) in text and "60 test concepts in 4 languages are 240 points" in text
    last = {state: results[state]["alignment"][-1]["silhouette"]["label"] for state in ("before", "vanilla", "ear")}
    assert "(silhouette by label): {before:.2f}, {vanilla:.2f} and {ear:.2f}. ".format(**last) in text
    assert report.losses_sentence(results) in text
    assert f"{results['peak_memory_mb'] / 1024:.2f} GB" in text


@pytest.mark.parametrize(("change", "verb"), [(0.1, "rises by 10.0"), (-0.05, "falls by 5.0"), (0.0, "changes by 0.0")])
def test_the_sentence_turns_with_the_numbers(results, change, verb):
    accuracy = {"en": 0.8, "de": 0.5, "zh": 0.4, "ar": 0.6}
    moved = {language: value + change * (language != "en") for language, value in accuracy.items()}
    moved |= {"de": moved["de"] + 0.02, "zh": moved["zh"] - 0.02}
    for method, values in (("vanilla", accuracy), ("ear", moved)):
        mean = (values["de"] + values["zh"] + values["ar"]) / 3
        results[method] |= {"accuracy": values, "target_mean": mean, "mean_gap": values["en"] - mean}
    results["gain"] = results["ear"]["target_mean"] - results["vanilla"]["target_mean"]
    sentence = report.bars_sentence(results)
    assert f"the target mean {verb} points" in sentence
    assert f"goes from 30.0 to {100 * (0.3 - change):.1f} points" in sentence
    ahead = sum(moved[language] > accuracy[language] for language in ("de", "zh", "ar"))
    assert f"ahead in {ahead} of 3 languages" in sentence
    assert f"{100 * change - 2:+.1f} points (Chinese) to {100 * change + 2:+.1f} (German)" in sentence
    table = scores_text({method: results[method] for method in ("vanilla", "ear")})
    line = next(line for line in table.splitlines() if line.startswith("German"))
    assert line.split()[1:] == ["50.0", f"{100 * moved['de']:.1f}", f"{100 * change + 2:+.1f}"]
    assert f"target mean: {100 * results['gain']:+.1f} points. This is one seed" in demo_text(results, "x")


def test_inert_terms_are_named_only_where_there_are_any(results):
    results["ear"]["gradient_shares"] = {"ce": 0.5, "robust": 0.4895, "push": 0.0005, "pull": 0.01}
    assert report.losses_sentence(results).endswith("here: push.")
    results["ear"]["gradient_shares"] = {"ce": 0.5, "robust": 0.3, "push": 0.1, "pull": 0.1}
    assert "under 1 %" not in report.losses_sentence(results)


def test_the_default_width_holds_every_training_name(emoji_task, full_encoder):
    names = full_encoder.tokenizer(emoji_task.texts("train", "en"))["input_ids"]
    assert max(map(len, names)) <= WIDTH


@pytest.mark.browser
@pytest.mark.parametrize("size", [(1366, 768), (390, 844)])
def test_report_works_offline_in_a_browser(demo, chromium, size):
    from playwright.sync_api import sync_playwright

    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_context(viewport={"width": size[0], "height": size[1]}, offline=True).new_page()
        page.set_default_timeout(120_000)
        complaints, asked = [], []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((demo[1] / "report.html").as_uri())
        page.wait_for_selector(".map .scatterlayer .point")
        assert page.locator(".js-plotly-plot").count() == 3
        assert page.evaluate("document.documentElement.scrollWidth") == size[0]

        def first_point():
            return page.locator(".map .scatterlayer .point").first.get_attribute("transform")

        shown = first_point()
        rail = page.locator(".map .slider-rail-touch-rect")
        rail.scroll_into_view_if_needed()
        box = rail.bounding_box()
        page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
        page.wait_for_timeout(800)
        assert first_point() != shown
        assert "Layer 0" in page.locator(".map .slider-label").first.text_content()
        browser.close()
    assert complaints == []
    assert asked == [(demo[1] / "report.html").as_uri()]
