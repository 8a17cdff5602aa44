"""`merge`: one report of the shards of an evaluation."""

import dataclasses
import pathlib

import numpy as np

from keras_wp.attacks import adaptive
from keras_wp.cluster import findings
from keras_wp.cluster.fitting import check_together
from keras_wp.reports import samples, shard
from keras_wp.reports.report import Report

# What machines may differ in.
_OF_MACHINES = ("machine", "numpy", "python")


def merge(reports):
    """One report of the shards of an evaluation.

    Of all shards, with `adaptive=False` and `audit=False`, it is the report of
    an evaluation of all data at once, number for number: which images are
    classified correctly and which resist, distances, steps, gradients, what
    images are taken for, samples, and what is proved. Seconds are summed. (A
    pass through the model may be rounded in another way in another batch, as
    between any two evaluations.) Adaptive attacks and the audit have decided
    within each shard what to try and what to give up: what they found is put
    together, and equal in kind only. To have them as those of one evaluation,
    call `evaluate` with the `resume_dir` of the shards and no `shard`.

    Findings that are counts, such as how many planted examples were found, are
    of all shards. Of others, where several shards have the same, the gravest
    is kept, with the numbers of these shards in its evidence.

    Args:
        reports: The shards' `Report`s, or paths of their `.json` files or of
            folders of them, in any order.

    Returns:
        A `Report`. Its `environment["merged"]` says of how many shards it is;
        if some are missing, `environment["missing"]` says which, and printed
        it says that it is partial.

    Raises:
        ValueError: If these are not shards of one evaluation, of the same
            model, data, attacks and versions, or if one is there twice.

    Example:

    >>> for k in (1, 2):  # Usually on different machines.
    ...     part = keras_wp.evaluate(
    ...         model, data, "pgd20", eps=8 / 255, shard=(k, 2)
    ...     )
    ...     part.to_json(f"shards/{k}.json")
    >>> print(keras_wp.merge(["shards"]))
    """
    named = list(_read(reports))
    if not named:
        raise ValueError("`merge` takes at least one shard. Received: none")
    return merged(named)


def merged(named, empty=()):
    """One report of shards, of which some may be without images.

    Args:
        named: Pairs of what each is called, for errors, and its `Report`.
        empty: The numbers of those without images.
    """
    check_together(named)
    parts = sorted(
        (report for _, report in named), key=lambda part: part.shard.index
    )
    places = [part.shard.places(len(part)) for part in parts]
    order = np.argsort(np.concatenate(places))
    whole = Report(
        clean_correct=_joined([p.clean_correct for p in parts], order),
        results=tuple(
            _whole(same, order, seconds=sum(r.seconds for r in same))
            for same in zip(*(part.results for part in parts), strict=True)
        ),
        environment=_environment(parts, empty),
        identities=tuple(
            _joined([np.array(p.identities) for p in parts], order).tolist()
        ),
        samples=_samples(parts, order),
        geometry=parts[0].geometry,
        certificate=_certificate([p.certificate for p in parts], order),
    )
    found = findings.merged(whole, parts)
    return dataclasses.replace(whole, findings=found)


def _read(reports):
    """Yield what each is called, for errors, and the report."""
    if isinstance(reports, (str, pathlib.Path, Report)):
        reports = [reports]
    for place, item in enumerate(reports, start=1):
        if isinstance(item, Report):
            yield f"report {place}", item
            continue
        path = pathlib.Path(item)
        files = [path]
        if path.is_dir():
            files = sorted(path.glob("*.json"))
            if not files:
                raise ValueError(
                    "A folder of shards must have .json files. Received: "
                    f"{str(path)!r}, which has none"
                )
        for file in files:
            yield str(file), Report.from_json(file)


def _joined(arrays, order):
    """Arrays of the shards as one, in the order of the data; or None."""
    if any(array is None for array in arrays):
        return None
    return np.concatenate(arrays)[order]


def _whole(parts, order, **values):
    """What the shards' records are together: arrays joined, and new values."""
    first = parts[0]
    arrays = {
        field.name: _joined([getattr(p, field.name) for p in parts], order)
        for field in dataclasses.fields(first)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    return dataclasses.replace(first, **arrays, **values)


def _certificate(found, order):
    if found[0] is None:
        return None
    return _whole(found, order, constant=max(c.constant for c in found))


def _environment(parts, empty):
    """That of one evaluation, and how much of it is there."""
    environments = [part.environment for part in parts]
    found = dict(environments[0])
    for key in _OF_MACHINES:
        values = dict.fromkeys(str(e.get(key)) for e in environments)
        found[key] = ", ".join(values)
    dates = sorted({e["date"] for e in environments if e.get("date")})
    if dates:
        found["date"] = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    if found.get("command"):
        found["command"] = _without_shard(found["command"])
    count = parts[0].shard.count
    there = [part.shard.index for part in parts] + [*empty]
    found["merged"] = f"{len(there)} of {count} shards"
    if found.get("adaptive") or found.get("audit"):
        found["merged"] += (
            "; adaptive attacks and the audit decided within each of them"
        )
    lacking = shard.missing(there, count)
    if lacking:
        found["missing"] = lacking
    return found


def _without_shard(command):
    """A command line without its option `--shard`."""
    words, kept = iter(command.split(" ")), []
    for word in words:
        if word == "--shard":
            next(words, None)
        elif not word.startswith("--shard="):
            kept.append(word)
    return " ".join(kept)


def _samples(parts, order):
    """The first image of each class, as one evaluation takes them.

    Their places are those in the data; or in the report, where only that has
    an order.
    """
    rows, begin = np.argsort(order), 0
    found = []
    for part in parts:
        places = part.shard.places(len(part))
        if part.shard.at_least:
            places = rows[begin : begin + len(part)]
        begin += len(part)
        found += [
            dataclasses.replace(sample, index=int(places[sample.index]))
            for sample in part.samples
        ]
    first = {}
    for sample in sorted(found, key=lambda s: (s.label, s.index)):
        first.setdefault(sample.label, sample)
    size = next((sample.image.size for sample in first.values()), 0)
    names = {result.name for result in parts[0].results} - {adaptive.NAME}
    return tuple(first.values())[: samples.room(size, len(names))]
