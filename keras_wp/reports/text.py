"""The words and numbers of a report, as text."""

import math

import numpy as np

from keras_wp.reports import brackets
from keras_wp.reports.shard import told
from keras_wp.reports.statistics import wilson
from keras_wp.reports.wording import budget


def rows(report):
    """The table, cell by cell: a header, and a row for each attack.

    The first row after the header is that of the clean images, the last that
    of the worst case.
    """
    budgets = report.budgets
    header = ["attack"] + [budget(n, e) for n, e in budgets]
    minimum = any(r.minimum_norm for r in report.results)
    header += ["median distance"] if minimum else []
    header += ["steps/image", "zero grad", "seconds"]
    yield header
    count = len(report)
    clean = share(int(report.clean_correct.sum()), count)
    blank = [""] * (len(header) - 1 - len(budgets))
    yield ["clean", *[clean] * len(budgets), *blank]
    for name in dict.fromkeys(r.name for r in report.results):
        mine = {(r.norm, r.eps): r for r in report.results if r.name == name}
        first = next(iter(mine.values()))
        cells = [
            share(int(mine[b].robust.sum()), count) if b in mine else ""
            for b in budgets
        ]
        if minimum:
            median = f"{first.median_distance:.4g}"
            cells.append(median if first.minimum_norm else "")
        separate = [first] if first.minimum_norm else list(mine.values())
        steps = np.mean([r.mean_steps for r in separate])
        vanished = max(r.vanished_gradients for r in separate)
        seconds = sum(r.seconds for r in separate)
        cells += [f"{steps:.1f}", f"{vanished:.1%}", f"{seconds:.1f}"]
        yield [name, *cells]
    worst = [
        share(int(report.robust(n, e or math.inf).sum()), count)
        for n, e in budgets
    ]
    yield ["worst case", *worst, *blank]


def share(successes, count):
    """A percentage with its 95 % interval, as text."""
    low, high = wilson(successes, count)
    return f"{100 * successes / count:.1f} ({100 * low:.1f}-{100 * high:.1f})"


def difference(pair):
    """A `Pair`'s difference in points, with its 95 % interval, as text."""
    value, low, high = (100 * x for x in (pair.difference, *pair.interval))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def caption(report):
    """What was measured, in a line."""
    env = report.environment
    images = "; ".join(filter(None, [f"{len(report)} images", told(report)]))
    return (
        f"{images}; accuracy in % with its 95 % interval; "
        f"{env['model']}, keras {env['keras']} on {env['backend']}, "
        f"seed {env['seed']}"
    )


def inside(report):
    """What was proved, taken for granted, and found inside the model: lines."""
    told = {
        "Taken for granted": report.environment.get("assumed"),
        "Inside the model": report.environment.get("inside"),
    }
    found = [f"{what}: {how}." for what, how in told.items() if how]
    return [*brackets.lines(report), *found]
