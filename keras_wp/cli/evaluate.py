"""`evaluate MODEL`: attack it, show the report, and write it."""

import dataclasses
import pathlib
import shlex
import sys

from keras_wp import attacks, datasets
from keras_wp.cli import arguments, files, models
from keras_wp.evaluation.evaluate import evaluate as evaluate_model
from keras_wp.reports.findings import Finding

HELP = "attack a model and report what resists"
_CLASS_NAMES = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
}


def add_arguments(command):
    """What may follow the command."""
    command.add_argument("model", metavar="MODEL", help="the model")
    add_options(command)
    command.add_argument(
        "--save-adversarial",
        metavar="FILE.npz",
        type=pathlib.Path,
        help="save every adversarial image",
    )


def add_options(command):
    """What may follow every command that attacks."""
    add = command.add_argument
    add(
        "--dataset",
        metavar="NAME",
        help="mnist5k, or a set of TensorFlow Datasets such as mnist or "
        "cifar10; its test images are used",
    )
    add("--data-dir", metavar="DIR", help="where TensorFlow Datasets are")
    add(
        "--attacks",
        metavar="NAMES",
        default="pgd40,autoattack",
        type=arguments.names,
        help="names as in keras_wp.attacks.get, with commas "
        "(default: pgd40,autoattack)",
    )
    add(
        "--eps",
        metavar="EPS",
        type=arguments.budgets,
        help="budgets, with commas: 0.3 or 2/255,8/255, or by norm: "
        "linf=8/255,l2=0.5 (default: the data set's own)",
    )
    add(
        "--limit",
        metavar="N",
        type=arguments.count,
        help="use the first N images",
    )
    add("--batch-size", metavar="N", type=arguments.count, default=128)
    add("--seed", metavar="N", type=int, default=0)
    add("--audit", action="store_true", help="say why numbers may be too good")
    add(
        "--adaptive",
        action="store_true",
        help="add attacks that suit the model, such as through surrogates",
    )
    add(
        "--report",
        "--output",
        dest="reports",
        metavar="FILE",
        action="append",
        default=[],
        type=pathlib.Path,
        help="write a report, by its suffix: .html, .json or .md; may be "
        "given several times",
    )
    add(
        "--resume-dir",
        metavar="DIR",
        type=pathlib.Path,
        help="keep outcomes here as they come about, and continue from there "
        "after an interruption",
    )


def run(args):
    """Run the command."""
    files.prepare(args.reports, files.SUFFIXES)
    if args.save_adversarial:
        files.prepare([args.save_adversarial], (".npz",))
    model = models.load(args.model)
    report = attacked(
        args, model, load_data(args), save_adversarial=args.save_adversarial
    )
    files.show(report)
    for path in args.reports:
        files.write(report, path, class_names=_CLASS_NAMES.get(args.dataset))
    files.tell([*args.reports, args.save_adversarial])


def attacked(args, model, data, **options_of_files):
    """The report of an evaluation with these arguments.

    Args:
        args: The parsed arguments.
        model: The model.
        data: Its images and labels.
        **options_of_files: `resume_dir` and `save_adversarial` of `evaluate`.
    """
    chosen, findings = chosen_attacks(args, model), ()
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
        **{"resume_dir": args.resume_dir, **options_of_files},
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


def chosen_attacks(args, model):
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


def load_data(args):
    """The test images that the arguments name, and their labels."""
    if args.dataset is None:
        raise ValueError(
            "--dataset must name the images to attack, such as mnist5k or "
            "cifar10. Received: no --dataset"
        )
    _, (x, y) = datasets.load(args.dataset, args.data_dir)
    return x[: args.limit], y[: args.limit]
