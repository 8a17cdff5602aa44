"""What the commands do."""

import dataclasses
import pathlib
import shlex
import sys

from rich.console import Console

from keras_wp import attacks, datasets
from keras_wp.cli import models
from keras_wp.cli.arguments import SUFFIXES
from keras_wp.evaluation import request
from keras_wp.evaluation.evaluate import evaluate as evaluate_model
from keras_wp.inspection.geometry import head_geometry
from keras_wp.reports.comparable import common_budgets
from keras_wp.reports.comparison import compare as compare_reports
from keras_wp.reports.findings import Finding
from keras_wp.reports.report import Report

_CLASS_NAMES = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}


def evaluate(args):
    """`evaluate MODEL`: attack it, show the report, and write it."""
    _prepare(args.reports, SUFFIXES)
    if args.save_adversarial:
        _prepare([args.save_adversarial], (".npz",))
    model = models.load(args.model)
    report = _evaluate(args, model, _data(args), args.save_adversarial)
    _show(report)
    for path in args.reports:
        _write(report, path, class_names=_CLASS_NAMES.get(args.dataset))
    _name([*args.reports, args.save_adversarial])


def compare(args):
    """`compare A B`: the same attacks on both, and who withstands them."""
    _prepare(args.reports, SUFFIXES)
    sides = [_read(path) for path in (args.a, args.b)]
    data = None
    if not all(isinstance(side, Report) for side in sides):
        data = _data(args)
        common_budgets(*(_budgets(args, side) for side in sides))
    reports = []
    for side, letter in zip(sides, "AB", strict=True):
        if not isinstance(side, Report):
            folder = args.resume_dir and args.resume_dir / letter
            side = _evaluate(args, side, data, resume_dir=folder)
        reports.append(side)
    comparison = compare_reports(*reports, names=_names(args.a, args.b))
    _show(comparison)
    for path in args.reports:
        _write(comparison, path)
    _name(args.reports)


def _names(*paths):
    """What to call two files: as long as it takes to tell them apart."""
    parts = [pathlib.Path(path).parts for path in paths]
    length = 1
    while parts[0][-length:] == parts[1][-length:] and length < max(
        map(len, parts)
    ):
        length += 1
    return [
        f"{letter}: {pathlib.Path(*own[-length:])}"
        for letter, own in zip("AB", parts, strict=True)
    ]


def info(args):
    """`info MODEL`: its size and the geometry of its last layer."""
    model = models.load(args.model)
    lines = [f"{model.name}: {args.model}"]
    if hasattr(model, "count_params"):
        lines.append(f"{model.count_params():,} parameters.")
        shape = getattr(model, "input_shape", None)
        if isinstance(shape, tuple):
            lines.append(f"Images of the shape {shape[1:]}.")
    else:
        has = "has" if models.has_gradients(model) else "has no"
        lines.append(f"A SavedModel of images {model.input_shape}.")
        lines.append(f"It {has} gradients for attacks to follow.")
    geometry = head_geometry(model)
    if geometry is None:
        lines.append("Its last layer has no class weights to be seen.")
    else:
        lines += geometry.summary()
    _print("\n".join(lines))


def _evaluate(args, model, data, save_adversarial=None, resume_dir=None):
    chosen, findings = _attacks(args, model), ()
    options = {"audit": args.audit, "adaptive": args.adaptive}
    options = {name: True for name, wanted in options.items() if wanted}
    if not models.has_gradients(model):
        finding = Finding(
            "warning",
            "The model gives no gradients, so that only Square, which needs "
            "none, was run: attacks that follow gradients might fool more "
            "images.",
            {
                "attacks": [attack.label for attack in chosen],
                "left out": [*args.attacks, *options],
            },
        )
        findings, options = (finding,), {}
        print(f"keras_wp: {finding.message}", file=sys.stderr)
    report = evaluate_model(
        model,
        data,
        chosen,
        eps=args.eps,
        batch_size=args.batch_size,
        seed=args.seed,
        resume_dir=resume_dir or args.resume_dir,
        save_adversarial=save_adversarial,
        **options,
    )
    command = shlex.join(["python", "-m", "keras_wp", *args.argv])
    return dataclasses.replace(
        report,
        findings=(*report.findings, *findings),
        environment={
            **report.environment,
            "dataset": f"{args.dataset}, test, {len(report)} images",
            "command": command,
        },
    )


def _attacks(args, model):
    """The attacks to run on a model: those asked for, if it has gradients."""
    chosen = args.attacks
    used = sorted({attacks.get(name).norm for name in chosen})
    if isinstance(args.eps, list) and len(used) > 1:
        raise ValueError(
            "--eps must name the norm of each budget when the attacks use "
            "several, as in linf=8/255,l2=0.5. Received: no norm for attacks "
            f"in {' and '.join(used)}"
        )
    if args.eps is None:
        chosen = [attacks.get(name, args.dataset) for name in chosen]
    if models.has_gradients(model):
        return chosen
    return _gradient_free(chosen, args.eps)


def _budgets(args, side):
    """The pairs `(norm, eps)` that a side's report has, or will have."""
    if isinstance(side, Report):
        return side.budgets
    chosen = request.resolve(_attacks(args, side), args.eps)
    return request.radii(chosen, request.budgets(chosen, args.eps))


def _gradient_free(chosen, eps):
    """What stands for these attacks where there are no gradients."""
    chosen = [
        attacks.get(attack) if isinstance(attack, str) else attack
        for attack in chosen
    ]
    found = {}
    for attack in chosen:
        for part in attack.parts:
            if isinstance(part, attacks.Square):
                found[part.norm] = part
    for attack in chosen:
        own = getattr(attack, "eps", None)
        if own is not None and attack.norm not in found:
            found[attack.norm] = attacks.Square(
                eps=own, norm=attack.norm, bounds=attack.bounds
            )
    if isinstance(eps, dict) and set(found) - set(eps):
        raise ValueError(
            "--eps must hold a budget in the norm of each attack. Received: "
            f"budgets in {sorted(eps)} for attacks in {sorted(found)}"
        )
    return list(found.values())


def _read(path):
    """A report if this is one, else a model."""
    if pathlib.Path(path).suffix == ".json":
        return Report.from_json(path)
    return models.load(path)


def _data(args):
    if args.dataset is None:
        raise ValueError(
            "--dataset must name the images to attack, such as mnist5k or "
            "cifar10. Received: no --dataset"
        )
    _, (x, y) = datasets.load(args.dataset, args.data_dir)
    return x[: args.limit], y[: args.limit]


def _prepare(paths, suffixes):
    """Make sure, before any work, that files can be written there."""
    for path in paths:
        if path.suffix not in suffixes:
            raise ValueError(
                "What is written must be a file with the suffix "
                f"{' or '.join(suffixes)}. Received: {str(path)!r}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        with path.open("a"):
            pass
        if not there:
            path.unlink()


def _write(result, path, **options):
    if path.suffix == ".html":
        result.to_html(path, **options)
    elif path.suffix == ".json":
        result.to_json(path)
    else:
        path.write_text(result.to_markdown(), encoding="utf-8")


def _show(result):
    if sys.stdout.isatty():
        Console().print(result)
    else:
        _print(result)


def _name(paths):
    written = [str(path) for path in paths if path]
    if written:
        _print(f"\nWritten: {', '.join(written)}")


def _print(text):
    print(text, flush=True)
