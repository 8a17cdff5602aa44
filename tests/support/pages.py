"""Pages of Markdown and HTML, read back for tests."""

import base64
import html.parser
import io
import re

import numpy as np
from PIL import Image

HOSTILE = (
    '</style></title><script>alert("1")</script>',
    "'\" onerror=alert(1) x='",
    "<img src=http://example.invalid/x.png>",
)


def blocks(page, language=r"\w+"):
    """`(language, code)` of each block of code of a page of Markdown."""
    pattern = rf"^```({language})\n(.*?)^```"
    return re.findall(pattern, page.read_text(), re.M | re.S)


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


def drawing(text, label):
    """The only drawing of a page that is read aloud as something like this."""
    found = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    (svg,) = [
        svg
        for svg in found
        if label in Page(svg).all("svg")[0].get("aria-label", "")
    ]
    return Page(svg)


def decode_png(uri):
    """The pixels of a PNG file in a data URI: `(height, width, channels)`."""
    kind, data = uri.split(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.format == "PNG" and image.mode in {"L", "RGB"}
    pixels = np.asarray(image)
    return pixels.reshape(image.height, image.width, -1)


def images(page):
    return [decode_png(attributes["src"]) for attributes in page.all("img")]
