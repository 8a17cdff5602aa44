"""The HTML report: what it holds, and that nothing gets into it unescaped."""

import base64
import hashlib
import html.parser
import re
import struct
import zlib

import numpy as np
import pytest
from made_reports import attack_result, full_report, identities

from keras_wp import Report
from keras_wp.attacks import AutoAttack
from keras_wp.reports import wording
from keras_wp.reports.findings import Finding
from keras_wp.reports.html import angles, code, figures, png, style
from keras_wp.reports.html.markup import Markup, element

HOSTILE = (
    '</style></title><script>alert("1")</script>',
    "'\" onerror=alert(1) x='",
    "<img src=http://example.invalid/x.png>",
)


class Page(html.parser.HTMLParser):
    """The elements of a page, in order, and its visible text."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.words = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def decode_png(data):
    """`(height, width, channels, pixels)` of a PNG file as we write them."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    place, chunks = 8, {}
    while place < len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        kind, body = data[place + 4 : place + 8], data[place + 8 :][:length]
        (check,) = struct.unpack(">I", data[place + 8 + length :][:4])
        assert check == zlib.crc32(kind + body)
        chunks[kind] = body
        place += 12 + length
    width, height, depth, color = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    assert depth == 8 and b"IEND" in chunks
    channels = {0: 1, 2: 3}[color]
    rows = np.frombuffer(zlib.decompress(chunks[b"IDAT"]), np.uint8)
    rows = rows.reshape(height, 1 + width * channels)
    assert (rows[:, 0] == 0).all()
    return rows[:, 1:].reshape(height, width, channels)


def images(page):
    uris = [attributes["src"] for attributes in page.all("img")]
    return [decode_png(base64.b64decode(uri.split(",")[1])) for uri in uris]


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
    def verdict(*findings, **environment):
        report = Report(
            np.ones(4, bool),
            (attack_result("A", [1] * 4, [1, 1, 0, 0]),),
            {"model": "net", "keras": "3", "backend": "jax", **environment},
            findings=findings,
        )
        return Page(report.to_html()).text

    assert "No audit was run" in verdict()
    assert "with care: 1 warning" in verdict(Finding("warning", "Hm.", {}))
    assert "found no sign that the attacks failed" in verdict(audit=True)


def test_samples_are_drawn_with_their_differences(page, report):
    clean, moved, change = images(page)
    (sample,) = report.samples
    (attempt,) = sample.attempts
    np.testing.assert_allclose(clean / 255, sample.image, atol=0.002)
    np.testing.assert_allclose(moved / 255, attempt.image, atol=0.002)
    np.testing.assert_array_equal(change > 127, attempt.image > sample.image)
    assert set(np.unique(change)) == {0, 255}
    assert "PGD20 : taken for frog ; ℓ∞ 0.05; change × 10" in page.text
    assert "Withstands: FAB" in page.text
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


def test_call_names_options_and_what_earlier_reports_do_not_tell():
    ones = np.ones(3, bool)
    suite = AutoAttack(eps=0.1)
    report = Report(
        ones,
        (
            attack_result("PGD", ones, ones, call=None),
            attack_result("AutoAttack", ones, ones, call=repr(suite)),
            attack_result("adaptive", ones, ones, attack={"attack": "InTurn"}),
        ),
        {"model": "net", "adaptive": True, "audit": True, "seed": 1},
    )
    text = code.call(report)
    assert "    ...  # 'PGD': {'attack': 'PGD', 'steps'" in text
    assert "    keras_wp.attacks.AutoAttack(eps=0.1)," in text
    assert "InTurn" not in text
    assert "    seed=1,\n    adaptive=True,\n    audit=True,\n)" in text
    report.environment["adaptive"] = ["linear", "model-teacher"]
    text = code.call(report)
    assert "    adaptive=[...],  # 'linear, model-teacher'\n" in text


def test_call_leaves_each_attack_its_own_budget():
    ones = np.ones(3, bool)
    results = [
        attack_result("PGD", ones, ones, 0.3),
        attack_result("Near", ones, ones, 0.1, minimum_norm=True),
    ]
    text = code.call(Report(ones, tuple(results), {"model": "net"}))
    assert "    eps=" not in text


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


def test_elements_escape_text_and_attributes():
    made = element("p", "<b>", Markup("<i>"), None, ["&"], title='a"<b')
    assert made == '<p title="a&quot;&lt;b">&lt;b&gt;<i>&amp;</p>'
    assert element("img", src="x", alt=None) == '<img src="x">'
    assert element("b", "\x00a\u202eb") == "<b>ab</b>"


@pytest.mark.parametrize("shape", [(3, 5), (3, 5, 3), (3, 5, 1), (1, 3, 5)])
def test_png_keeps_every_pixel(rng, shape):
    pixels = rng.integers(0, 256, shape).astype(np.uint8)
    drawn = png.drawable(pixels)
    decoded = decode_png(png.png(drawn))
    np.testing.assert_array_equal(decoded.squeeze(), pixels.squeeze())


def test_arrays_that_are_no_images_are_not_drawn():
    assert png.drawable(np.zeros(5)) is None
    assert png.drawable(np.zeros((4, 4, 7))) is None


def test_full_curve_counts_every_distance():
    attacked = np.array([1, 1, 1, 1, 0], bool)
    result = attack_result(
        "A",
        attacked,
        attacked,
        minimum_norm=True,
        distance=[0.3, 0.1, np.inf, 0.2, np.inf],
    )
    eps, right = figures.distance_curve(attacked, result.distance)
    assert eps.tolist() == [0.0, 0.1, 0.2, 0.3]
    assert right.tolist() == [4, 3, 2, 1]


def test_thinned_curve_is_never_too_high(rng):
    count = 1000
    attacked = np.ones(count, bool)
    distance = rng.permutation(np.arange(1, count + 1) / count)
    result = attack_result(
        "A", attacked, attacked, 1.0, minimum_norm=True, distance=distance
    )
    report = Report(attacked, (result,), {}, identities=identities(count))
    svg, _ = figures.accuracy_curve(report, "linf")
    (line,) = [
        attributes["d"]
        for attributes in Page(svg).all("path")
        if attributes["class"] == "line c0"
    ]
    x, y = np.array(re.findall(r"[\d.]+", line), float).reshape(-1, 2).T
    axes = figures.Axes((0.0, 1.0), (0.0, 1.0))
    eps = (x - axes.x(0.0)) / (axes.x(1.0) - axes.x(0.0)) * 1.12
    share = (y - axes.y(0.0)) / (axes.y(1.0) - axes.y(0.0))
    # At the right end of each step, before it falls.
    left = [(distance > e - 1e-4).mean() for e in eps]
    assert len(eps) < count
    assert (share <= np.array(left) + 1e-4).all()


def test_points_are_where_their_accuracy_is(rng):
    attacked = np.ones(10, bool)
    robust = np.arange(10) < 4
    report = Report(
        attacked,
        (attack_result("A", attacked, robust, eps=0.2),),
        {},
        identities=identities(10),
    )
    svg, names = figures.accuracy_curve(report, "linf")
    assert names == ["A"]
    axes = figures.Axes((0.0, 1.12 * 0.2), (0.0, 1.0))
    dots = [a for tag, a in Page(svg).elements if tag == "circle"]
    assert {(d["cx"], d["cy"]) for d in dots} == {
        (f"{axes.x(0.2):.6g}", f"{axes.y(0.4):.6g}")
    }


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0, 0.035, [0, 0.01, 0.02, 0.03]),
        (60, 130, [60, 80, 100, 120]),
    ],
)
def test_ticks_are_round(low, high, expected):
    assert figures.ticks(low, high) == pytest.approx(expected)


def test_matrix_shows_each_pair(report):
    svg = Page(angles.matrix(report.geometry, HOSTILE))
    assert [t for t in svg.text.split() if t in {"125", "110", "130"}] == [
        "125",
        "110",
        "130",
    ]
    deviations = [a["class"] for a in svg.all("rect")]
    assert deviations == ["far", "near", "far"]


def test_histogram_counts_each_pair(report):
    svg = Page(angles.histogram(report.geometry))
    assert svg.text.count("1 pairs") == 3
    assert "ideal 120.0°" in svg.text


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


@pytest.mark.parametrize("theme", ["_LIGHT", "_DARK"])
def test_text_stands_out_from_what_is_behind_it(theme):
    text = getattr(style, theme)
    colors = dict(re.findall(r"--([\w-]+): (#\w{6});", text))
    pairs = [
        *[(tone, f"{tone}-bg") for tone in ("high", "warning", "info", "good")],
        *[(ink, back) for ink in ("ink", "soft") for back in ("page", "card")],
        ("high", "card"),
    ]
    for ink, back in pairs:
        assert contrast(colors[ink], colors[back]) >= 4.5, (ink, back)
    for series in (*(f"c{i}" for i in range(figures.SERIES)), "worst"):
        # Section 1.4.11: graphics need less.
        assert contrast(colors[series], colors["card"]) >= 3, series
