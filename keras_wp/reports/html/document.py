"""A whole HTML document that needs no network and runs no script.

Everything that comes from outside goes through `markup.element`, which
escapes it; a Content-Security-Policy allows the document's own style sheet and
images within it, and nothing else.
"""

import base64
import hashlib

from keras_wp.reports.html.markup import Markup, element
from keras_wp.reports.html.style import CSS


def document(title, *children):
    """An HTML document.

    Args:
        title: Its title.
        *children: What is in it; see `markup.join`.
    """
    digest = base64.b64encode(hashlib.sha256(CSS.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element(
            "meta",
            name="viewport",
            content="width=device-width, initial-scale=1",
        ),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(CSS)),
    )
    body = element("body", element("main", *children))
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"
