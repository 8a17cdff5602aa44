"""What is found on all images, from what was found in each shard."""

import collections
import dataclasses

from keras_wp.attacks import adaptive
from keras_wp.audit import model_checks, planted, run, stronger_attacks
from keras_wp.reports.findings import (
    SEVERITIES,
    Finding,
    gravest_first,
    severity_of,
)

# What each shard tells alike.
_OF_MODEL = "pixels"
# What the merged outcomes, or figures that are summed, tell afresh.
_OF_ALL = (
    *("chance", "short_steps", "denied_success"),
    *("adaptive_attack", "extent"),
)
# Findings of one check may be about different budgets or attacks.
_KINDS = ("norm", "eps", "attack", "operation")


def merged(whole, parts):
    """The findings of a merged report, gravest first.

    What can be counted is counted again; of anything else the gravest that
    shards found is kept, with the numbers of all of these shards.

    Args:
        whole: The merged `Report`, without findings.
        parts: The shards' `Report`s.
    """
    found = [*_afresh(whole, parts), *_gravest(parts)]
    extents = [_evidence(part, "extent") for part in parts]
    last = [run.extent(*_summed(extents))] if any(extents) else []
    return (*gravest_first(found), *last)


def _afresh(whole, parts):
    one = parts[0].shard
    yield from _overlap(parts)
    yield from model_checks.chance(whole.clean_correct, one.classes)
    yield from (f for f in parts[0].findings if f.check == _OF_MODEL)
    yield from model_checks.short_steps(whole.results)
    if not one.randomized:
        yield from model_checks.denied(whole.results)
    for norm, eps in _audited(parts):
        fooled = sum(
            int((row.attacked & ~row.robust).sum())
            for row in whole.results
            if (row.name, row.norm, row.eps) == (adaptive.NAME, norm, eps)
        )
        left = float(whole.robust(norm, eps).mean())
        yield from stronger_attacks.gain(norm, eps, left, fooled, len(whole))
        plants = [
            f.evidence
            for part in parts
            for f in part.findings
            if _counts_plants(f) and f.evidence["norm"] == norm
        ]
        if plants:
            yield planted.judged(_sum_of_plants(plants, eps), left)


def _overlap(parts):
    """A finding about images that shards of a function have in common."""
    if not parts[0].shard.at_least:
        return
    counts = collections.Counter(i for p in parts for i in {*p.identities})
    several = sum(count > 1 for count in counts.values())
    if several:
        yield Finding(
            severity_of(several / len(counts)) or "info",
            f"{several} of {len(counts)} different images are in several "
            "shards, and count once for each: do the shards overlap?",
            {"images": several, "different": len(counts)},
            "overlap",
        )


def _counts_plants(finding):
    """Whether it has all figures about planted examples.

    Of randomized models there are none, nor has an earlier version all.
    """
    known = {"read_outs", "attacks"} <= finding.evidence.keys()
    return finding.check == "planted" and known


def _audited(parts):
    """The largest budget in each norm that a shard's audit looked at."""
    found = {}
    for part in parts:
        for budget in _evidence(part, "extent").get("budgets", ()):
            norm, eps = budget["norm"], budget["eps"]
            found[norm] = max(eps, found.get(norm, eps))
    return found.items()


def _evidence(part, check):
    """That of the finding of a check in a shard, if there is one."""
    found = (f.evidence for f in part.findings if f.check == check)
    return next(found, {})


def _summed(extents):
    """Budgets with the images that were tried in all shards; and seconds."""
    budgets = {}
    for extent in extents:
        for budget in extent.get("budgets", ()):
            kind = budget["norm"], budget["eps"]
            none = {**budget, "images": 0, "survivors": 0}
            total = budgets.setdefault(kind, none)
            total["images"] += budget["images"]
            total["survivors"] += budget["survivors"]
    seconds = sum(extent.get("seconds", 0) for extent in extents)
    return list(budgets.values()), seconds


def _sum_of_plants(plants, eps):
    """The evidence about planted examples, of all shards that had enough."""
    tested = [each for each in plants if "found" in each]
    chosen = tested or plants
    total = {**chosen[0], "eps": eps}
    for name in ("planted", "images"):
        total[name] = sum(each[name] for each in chosen)
    if tested:
        total["found"] = {
            label: sum(each["found"][label] for each in tested)
            for label in tested[0]["found"]
        }
    return total


def _gravest(parts):
    groups = {}
    for part in parts:
        for finding in part.findings:
            if finding.check not in (*_OF_ALL, _OF_MODEL) and not (
                _counts_plants(finding)
            ):
                kind = finding.check, *map(finding.evidence.get, _KINDS)
                groups.setdefault(kind, []).append((part.shard, finding))
    for group in groups.values():
        yield _gravest_of(group, len(parts))


def _gravest_of(group, count):
    """One finding for those of the same check in several shards."""
    where, worst = min(group, key=lambda f: SEVERITIES.index(f[1].severity))
    if len(group) == count and all(f == worst for _, f in group):
        return worst
    numbers = [one.index for one, _ in group]
    return dataclasses.replace(
        worst,
        message=f"In shard {where.index} of {where.count}: {worst.message}",
        evidence={**worst.evidence, "shards": numbers},
    )
