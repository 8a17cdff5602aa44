"""`merge`: one report of the shards of an evaluation."""

import dataclasses
import pathlib

import numpy as np

from keras_wp.audit import model_checks
from keras_wp.cluster.fitting import check_together
from keras_wp.reports import samples, shard
from keras_wp.reports.findings import SEVERITIES, gravest_first
from keras_wp.reports.report import Report

# What the merged outcomes tell afresh.
_OF_ALL = ("chance", "short_steps", "denied_success")
# What each of them tells alike.
_OF_MODEL = "pixels"
_ADAPTIVE = "adaptive"
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

    Of findings that several shards have of the same check, the gravest is
    kept, with the numbers of all of these shards in its evidence.

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
    named = _counted(named)
    check_together(named)
    parts = sorted(
        (report for _, report in named), key=lambda part: part.shard.index
    )
    order = np.argsort(np.concatenate([part.shard.places for part in parts]))
    whole = Report(
        clean_correct=_joined([p.clean_correct for p in parts], order),
        results=tuple(
            _result(same, order)
            for same in zip(*(part.results for part in parts), strict=True)
        ),
        environment=_environment(parts),
        identities=tuple(
            _joined([np.array(p.identities) for p in parts], order).tolist()
        ),
        samples=_samples(parts),
        geometry=parts[0].geometry,
        certificate=_certificate([p.certificate for p in parts], order),
    )
    findings = gravest_first(_findings(whole, parts))
    return dataclasses.replace(whole, findings=findings)


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


def _counted(named):
    """The shards, with the number of images that they have together.

    A shard of a function knows a part of them; the largest such number is
    that of all that are there.
    """
    known = [
        report.shard.images
        for _, report in named
        if getattr(report, "shard", None) and report.shard.at_least
    ]
    if len(known) < len(named):
        return named
    return [
        (
            name,
            dataclasses.replace(
                report,
                shard=dataclasses.replace(report.shard, images=max(known)),
            ),
        )
        for name, report in named
    ]


def _joined(arrays, order):
    """Arrays of the shards as one, in the order of the data; or None."""
    if any(array is None for array in arrays):
        return None
    return np.concatenate(arrays)[order]


def _result(same, order):
    """What one attack did, from what it did in each shard."""
    first = same[0]
    arrays = {
        field.name: _joined([getattr(r, field.name) for r in same], order)
        for field in dataclasses.fields(first)
        if isinstance(getattr(first, field.name), np.ndarray)
    }
    seconds = sum(result.seconds for result in same)
    return dataclasses.replace(first, seconds=seconds, **arrays)


def _certificate(found, order):
    if found[0] is None:
        return None
    arrays = {
        name: _joined([getattr(c, name) for c in found], order)
        for name in ("radius", "prediction", "correct", "rounding")
    }
    constant = max(c.constant for c in found)
    return dataclasses.replace(found[0], constant=constant, **arrays)


def _environment(parts):
    """That of one evaluation, and how much of it is there."""
    environments = [part.environment for part in parts]
    merged = dict(environments[0])
    for key in _OF_MACHINES:
        values = dict.fromkeys(str(e.get(key)) for e in environments)
        merged[key] = ", ".join(values)
    dates = sorted({e["date"] for e in environments if e.get("date")})
    if dates:
        merged["date"] = " to ".join(dict.fromkeys([dates[0], dates[-1]]))
    if merged.get("command"):
        merged["command"] = _without_shard(merged["command"])
    count = parts[0].shard.count
    merged["merged"] = f"{len(parts)} of {count} shards"
    if merged.get("adaptive") or merged.get("audit"):
        merged["merged"] += (
            "; adaptive attacks and the audit decided within each of them"
        )
    lacking = shard.missing([p.shard.index for p in parts], count)
    if lacking:
        merged["missing"] = lacking
    return merged


def _without_shard(command):
    """A command line without its option `--shard`."""
    words, kept = iter(command.split(" ")), []
    for word in words:
        if word == "--shard":
            next(words, None)
        elif not word.startswith("--shard="):
            kept.append(word)
    return " ".join(kept)


def _samples(parts):
    """The first image of each class, as one evaluation takes them."""
    found = [
        dataclasses.replace(sample, index=int(part.shard.places[sample.index]))
        for part in parts
        for sample in part.samples
    ]
    first = {}
    for sample in sorted(found, key=lambda s: (s.label, s.index)):
        first.setdefault(sample.label, sample)
    size = next((sample.image.size for sample in first.values()), 0)
    names = {result.name for result in parts[0].results} - {_ADAPTIVE}
    return tuple(first.values())[: samples.room(size, len(names))]


def _findings(whole, parts):
    """What is found on all images, and the gravest of what shards found."""
    one = parts[0].shard
    yield from model_checks.chance(whole.clean_correct, one.classes)
    yield from (f for f in parts[0].findings if f.check == _OF_MODEL)
    yield from model_checks.short_steps(whole.results)
    if not one.randomized:
        yield from model_checks.denied(whole.results)
    groups = {}
    for part in parts:
        for finding in part.findings:
            if finding.check not in (*_OF_ALL, _OF_MODEL):
                kind = finding.check, *map(finding.evidence.get, _KINDS)
                groups.setdefault(kind, []).append((part.shard, finding))
    for group in groups.values():
        yield _gravest(group, len(parts))


# Findings of one check may be about different budgets or attacks.
_KINDS = ("norm", "eps", "attack", "operation")


def _gravest(group, count):
    """One finding for those of the same check in several shards."""
    where, worst = min(group, key=lambda f: SEVERITIES.index(f[1].severity))
    messages = {finding.message for _, finding in group}
    if len(group) == count and len(messages) == 1:
        return worst
    numbers = [one.index for one, _ in group]
    return dataclasses.replace(
        worst,
        message=f"In shard {where.index} of {where.count}: {worst.message}",
        evidence={**worst.evidence, "shards": numbers},
    )
