"""HTML and SVG elements whose text and attributes are escaped by default."""

import html


class Markup(str):
    """Text that is markup already, and is not escaped again."""

    __slots__ = ()


def element(tag, /, *children, **attributes):
    """An element.

    Args:
        tag: The tag's name. The page that is written holds no scripts, so
            that there is nothing to escape in a way of its own.
        *children: `Markup` as it is; other values as escaped text; lists and
            tuples of both; None is left out.
        **attributes: Values are escaped; None is left out. An underscore
            stands for a hyphen, but for one at the end, as in `class_`.

    Returns:
        `Markup`.
    """
    written = [
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_text(value))}"'
        for key, value in attributes.items()
        if value is not None
    ]
    opening = f"<{tag}{''.join(written)}"
    if tag in _VOID:
        return Markup(f"{opening}>")
    return Markup(f"{opening}>{join(children)}</{tag}>")


_VOID = {"br", "img", "meta"}


def join(children):
    """Children of an element, one after the other, as `Markup`."""
    parts = []
    for child in children:
        if isinstance(child, (list, tuple)):
            parts.append(join(child))
        elif isinstance(child, Markup):
            parts.append(child)
        elif child is not None:
            parts.append(html.escape(_text(child)))
    return Markup("".join(parts))


def _text(value):
    if isinstance(value, float):
        return f"{value:.6g}"
    # What XML forbids is no text, and may end a document.
    return "".join(c for c in str(value) if c.isprintable() or c in "\n\t ")
