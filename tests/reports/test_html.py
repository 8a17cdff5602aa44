"""The HTML report: what it holds, and that nothing gets into it unescaped."""

import base64
import dataclasses
import hashlib
import pathlib
import re

import jinja2
import numpy as np
import pytest
from made_reports import attack_result, full_report
from pages import HOSTILE, Page, images

from keras_wp import Report
from keras_wp.reports import charts, html, wording
from keras_wp.reports.findings import Finding
from keras_wp.reports.verdict import verdict

pytestmark = pytest.mark.once


@pytest.fixture
def report(rng):
    return full_report(rng)


@pytest.fixture
def page(report):
    return Page(report.to_html(class_names=["cat", "dog", "frog"]))


def test_page_is_whole(page):
    assert page.open == []
    for heading in (
        "Robustness of net",
        "Findings",
        "Accuracy",
        "Accuracy against eps",
        "Images",
        "Geometry of the last layer",
        "How to reproduce it",
    ):
        assert heading in page.text


def test_page_is_written_to_a_file(report, tmp_path):
    path = tmp_path / "report.html"
    text = report.to_html(path)
    assert path.read_text(encoding="utf-8") == text


def test_every_accuracy_has_its_interval(page, report):
    for result in report.results:
        low, high = result.confidence_interval
        share = f"{100 * result.robust_accuracy:.1f} %"
        assert f"{share} {100 * low:.1f}–{100 * high:.1f} %" in page.text
    assert "80.0 % 65.2–89.5 %" in page.text  # Clean: 32 of 40.


def test_findings_come_first_and_the_gravest_before_all(page):
    places = [
        page.text.index(message)
        for message in (
            "Gradients vanish.",
            "More steps fool more images.",
            "Logits are of moderate size.",
            "Wilson",
        )
    ]
    assert places == sorted(places)
    assert "Do not rely on the robust accuracy: 1 finding" in page.text


def test_verdict_without_findings_says_whether_there_was_an_audit(rng):
    def said(*findings, **environment):
        report = Report(
            np.ones(4, bool),
            (attack_result("A", [1] * 4, [1, 1, 0, 0]),),
            {"model": "net", "keras": "3", "backend": "jax", **environment},
            findings=findings,
        )
        return Page(report.to_html()).text

    assert "No audit was run" in said()
    assert "with care: 1 warning" in said(Finding("warning", "Hm.", {}))
    assert "found no sign that the attacks failed" in said(audit=True)


def test_what_adaptive_attacks_add_is_no_doubt_about_the_worst_case(report):
    def said(*findings):
        env = {**report.environment, "audit": True, "adaptive": True}
        return verdict(
            dataclasses.replace(report, findings=findings, environment=env)
        )

    gain = Finding("warning", "More.", {}, "adaptive_attack")
    tone, text = said(gain)
    assert tone == "good"
    assert "the adaptive attacks made up for it" in text
    tone, text = said(gain, Finding("warning", "Hm.", {}, "noise"))
    assert (tone, text.partition(":")[2]) == ("warning", " 1 warning below.")


def test_samples_are_drawn_with_their_differences(page, report):
    clean, moved, change = images(page)
    (sample,) = report.samples
    (attempt,) = sample.attempts
    np.testing.assert_allclose(clean / 255, sample.image, atol=0.002)
    np.testing.assert_allclose(moved / 255, attempt.image, atol=0.002)
    np.testing.assert_array_equal(change > 127, attempt.image > sample.image)
    assert set(np.unique(change)) == {0, 255}
    assert "PGD20 : classified as frog ; ℓ∞ 0.05; change × 10" in page.text
    assert "Resists: FAB" in page.text
    assert all(attributes["alt"] for attributes in page.all("img"))


def test_drawings_can_be_read_aloud(page):
    labels = [a["aria-label"] for a in page.all("svg") if "role" in a]
    assert len(labels) == 4
    assert any("clean 32" in label for label in labels)
    assert all("aria-label" in a or "aria-hidden" in a for a in page.all("svg"))


def test_budgets_are_written_as_people_do(page):
    assert wording.eps_text(8 / 255) == "8/255"
    assert wording.eps_text(0.3) == "0.3"
    assert wording.eps_text(0.2) == "0.2"
    assert wording.eps_text(1 / 7) == "0.1429"
    assert wording.within("l2", None) == "ℓ2, any distance"
    assert "ℓ∞ ≤ 0.1" in page.text


def test_call_that_reproduces_is_shown(report, page):
    assert "keras_wp.attacks.PGD(eps=0.1, steps=20)" in page.text
    assert "eps={'linf': [0.1, 0.2], 'l2': [1.0]}" in page.text
    assert "seed=4" in page.text


def test_settings_show_the_eps_of_the_run():
    ones = np.ones(3, bool)
    config = {"attack": "DeepFool", "eps": 0.5, "name": None}
    report = Report(
        ones,
        (
            attack_result(
                "Mine", ones, ones, 0.1, minimum_norm=True, attack=config
            ),
        ),
        {"model": "net"},
    )
    text = Page(report.to_html()).text
    assert '"name": "Mine"' in text and '"eps": 0.1' in text
    assert '"eps": 0.5' not in text


@pytest.mark.parametrize("where", ["class", "attack", "finding", "model"])
def test_hostile_names_are_text(rng, where):
    name = "".join(HOSTILE)
    values = {"attack": {"name": name}, "finding": {"message": name}}
    report = full_report(rng, **values.get(where, {}))
    if where == "model":
        report.environment.update(model=name, command=name)
    try:
        text = report.to_html(class_names=HOSTILE if where == "class" else None)
        calm = Page(full_report(rng).to_html())
    finally:
        if where == "model":
            report.environment.update(model="net")
            report.environment.pop("command")
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.elements} == {t for t, _ in calm.elements}
    assert page.all("script") == []
    for _, attributes in page.elements:
        assert not [key for key in attributes if key.startswith("on")]
        assert "href" not in attributes and "style" not in attributes
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/png;base64,")
    assert HOSTILE[0] in page.text


def test_policy_allows_this_style_sheet_and_nothing_else(report):
    text = report.to_html()
    policy = next(
        attributes["content"]
        for attributes in Page(text).all("meta")
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    style = re.search(r"<style>(.*?)</style>", text, re.S)[1]
    digest = hashlib.sha256(style.encode()).digest()
    assert policy == (
        "default-src 'none'; style-src 'sha256-"
        f"{base64.b64encode(digest).decode()}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "http://" not in style and "url(" not in style


def test_report_without_extras_is_drawn():
    none = np.zeros(3, bool)
    report = Report(
        none,
        (attack_result("A", none, none, eps=None),),
        {"model": "net", "keras": "3", "backend": "jax", "seed": 0},
    )
    page = Page(report.to_html())
    assert page.open == []
    assert "0.0 % 0.0–56.1 %" in page.text
    assert page.all("img") == []


def made(source, **values):
    return html.TEMPLATES.from_string(source).render(values)


def test_templates_escape_text_and_attributes():
    source = '<p title="{{ title }}">{{ text }}{{ known|safe }}{{ sign }}</p>'
    values = {"title": 'a"<b', "text": "<b>", "known": "<i>", "sign": "&"}
    assert made(source, **values) == (
        '<p title="a&#34;&lt;b">&lt;b&gt;<i>&amp;</p>'
    )
    assert made("<b>{{ x }}</b>", x="\x00a\u202eb") == "<b>ab</b>"
    assert made("{{ x }} {{ n }}", x=np.float64(1 / 3), n=12) == "0.333333 12"


def test_templates_know_all_that_they_show():
    with pytest.raises(jinja2.UndefinedError):
        made("{{ unknown }}")


def test_what_is_no_text_is_left_out(rng):
    text = full_report(rng, message="a\x00\x1b\u202eb").to_html()
    assert "ab" in Page(text).text
    assert not {"\x00", "\x1b", "\u202e"} & set(text)


def contrast(first, second):
    """The contrast of two colors (WCAG 2.2, section 1.4.3)."""

    def luminance(color):
        channels = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [
            c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4
            for c in channels
        ]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    low, high = sorted([luminance(first), luminance(second)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(theme):
    folder = pathlib.Path(html.__file__).parent / "templates"
    css = (folder / "style.css").read_text(encoding="utf-8")
    # The second is within the media query.
    light, dark = re.findall(r":root {(.*?)}", css, re.DOTALL)
    text = {"light": light, "dark": dark}[theme]
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", text))
    pairs = [
        *[(tone, f"{tone}-bg") for tone in ("high", "warning", "info", "good")],
        *[(ink, back) for ink in ("ink", "soft") for back in ("page", "card")],
        ("high", "card"),
    ]
    for ink, back in pairs:
        assert contrast(colors[ink], colors[back]) >= 4.5, (ink, back)
    for series in (*(f"c{i}" for i in range(charts.SERIES)), "worst"):
        # Section 1.4.11: graphics need less.
        assert contrast(colors[series], colors["card"]) >= 3, series
