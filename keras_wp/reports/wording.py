"""Numbers and names as people write them."""

import math
import string

from keras_wp.reports.statistics import wilson

# Distances come in float32, and are so close to what they stand for.
_CLOSE = 1e-5
_NORMS = {"linf": "ℓ∞", "l2": "ℓ2", "l1": "ℓ1", "l0": "ℓ0"}


def norm_text(norm):
    """A norm as people write it."""
    return _NORMS.get(norm, norm)


def eps_text(eps):
    """A budget as people write it: 0.3, or 8/255."""
    if math.isclose(float(f"{eps:.3g}"), eps, rel_tol=_CLOSE):
        return f"{eps:.3g}"
    levels = round(255 * eps)
    if levels and math.isclose(255 * eps, levels, rel_tol=_CLOSE):
        return f"{levels}/255"
    return f"{eps:.4g}"


def budget(norm, eps):
    """A norm and a budget in it, as `linf 8/255`."""
    return norm if eps is None else f"{norm} {eps_text(eps)}"


def namer(class_names):
    """A function from a label to the name of its class."""
    names = None if class_names is None else [str(n) for n in class_names]

    def name(label):
        known = names is not None and 0 <= label < len(names)
        return names[label] if known else str(label)

    return name


def letters(count):
    """So many letters: A to Z, then AA, AB, ..."""
    single = string.ascii_uppercase
    return [*single, *(a + b for a in single for b in single)][:count]


def within(norm, eps):
    """A norm and a budget in it."""
    if eps is None or math.isinf(eps):
        return f"{norm_text(norm)}, any distance"
    return f"{norm_text(norm)} ≤ {eps_text(eps)}"


def accuracy(right, count):
    """So many images as a `share` of all, with its 95 % `interval`."""
    low, high = wilson(right, count)
    return {
        "share": f"{100 * right / count:.1f} %",
        "interval": f"{100 * low:.1f}–{100 * high:.1f} %",
    }


def survival(result):
    """Which share of an attack's images fools the model in bytes, too."""
    share = result.survives_bytes
    return "–" if share is None else f"{100 * share:.0f} %"


def number(count, what):
    """A number of things."""
    return f"{count} {what}" + "s" * (count != 1)


def points(share):
    """A difference of two shares, in points."""
    return f"{100 * share:+.1f}".replace("-", "−")


def value_text(value):
    """A plain value, on one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_text, value))
    if isinstance(value, dict):
        return ", ".join(f"{k}: {value_text(v)}" for k, v in value.items())
    return str(value)


def key_text(key):
    """A key of the evidence or the environment, as people read it."""
    return key if key == "keras_wp" else key.replace("_", " ")
