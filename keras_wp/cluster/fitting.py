"""Whether shards belong together: of one evaluation, each there once."""

import itertools
import math

from keras_wp.reports.report import Report
from keras_wp.reports.serialize import plain

# What evaluations that give the same numbers may differ in.
_FREE = {"command", "date", "machine", "numpy", "python"}
_SHARED = {
    "count": "number of shards",
    "classes": "number of classes",
    "model": "model, or weights",
    "data": "images",
    "randomized": "model",
}


def check_together(named):
    """Raise a ValueError unless these are shards of one evaluation.

    Args:
        named: Pairs of what each is called and the `Report`.
    """
    for name, report in named:
        if not isinstance(report, Report) or report.shard is None:
            raise ValueError(
                "`merge` takes shards, as `evaluate(..., shard=(k, n))` "
                f"returns them. Received: {name}, which is none"
            )
        part = report.shard
        due = len(range(part.index - 1, part.images, part.count))
        if len(report) != due and not part.at_least:
            raise ValueError(
                "A shard must have all of its images. Received: "
                f"{len(report)} of {due} in {name}"
            )
    (first, one), seen, images = named[0], {}, {}
    for name, report in named:
        for what, mine, theirs in _shared(one, report):
            if mine != theirs:
                raise ValueError(
                    "Shards must be of one evaluation, with the same "
                    f"{what}. Received: {mine!r} in {first} and {theirs!r} in "
                    f"{name}"
                )
        earlier = seen.setdefault(report.shard.index, name)
        if earlier != name:
            raise ValueError(
                "Each shard must be there once. Received: shard "
                f"{report.shard.index} of {report.shard.count} in {earlier} "
                f"and in {name}"
            )
        if len(set(report.identities)) > 1:
            other = images.setdefault(report.identities, name)
            if other != name and report.shard.at_least:
                raise ValueError(
                    "A function of (k, n) must return shard k of n. Received: "
                    f"the same images in {other} and in {name}"
                )


def _shared(a, b):
    """What two shards must have alike: its name, and what each of them has."""
    for field, what in _SHARED.items():
        yield what, getattr(a.shard, field), getattr(b.shard, field)
    if not (a.shard.at_least or b.shard.at_least):
        yield "number of images in all", a.shard.images, b.shard.images
    mine, theirs = plain(a.environment), plain(b.environment)
    for key in sorted((mine.keys() | theirs.keys()) - _FREE):
        yield key.replace("_", " "), mine.get(key), theirs.get(key)
    settings = [list(map(_setting, report.results)) for report in (a, b)]
    if a.shard.randomized:
        settings = [_without_draws(each) for each in settings]
    for kind, name in enumerate(("attacks", "settings of attacks")):
        found = [[setting[kind] for setting in side] for side in settings]
        yield name, *_different(*found)
    constants = [r.certificate and r.certificate.constant for r in (a, b)]
    if None in constants or not math.isclose(*constants, rel_tol=1e-6):
        yield "certificate", *constants


def _setting(result):
    norm = (
        result.norm if result.eps is None else f"{result.norm} {result.eps:g}"
    )
    # An attack in turn is told by its members, not by its name.
    return f"{result.name}, {norm}", plain(result.attack)


def _without_draws(settings):
    """Settings but for the draws of a gradient, which each shard estimates."""
    if isinstance(settings, dict):
        return {
            key: _without_draws(value)
            for key, value in settings.items()
            if key != "draws"
        }
    if isinstance(settings, (list, tuple)):
        return type(settings)(map(_without_draws, settings))
    return settings


def _different(a, b):
    """Of two lists, the first entries that differ; None for those beyond."""
    for one, other in itertools.zip_longest(a, b):
        if one != other:
            return _entries(one, other)
    return None, None


def _entries(one, other):
    """Of two dictionaries, the entries that differ."""
    if not (isinstance(one, dict) and isinstance(other, dict)):
        return one, other
    keys = [k for k in {**one, **other} if one.get(k) != other.get(k)]
    return tuple({k: side.get(k) for k in keys} for side in (one, other))
