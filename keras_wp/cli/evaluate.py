"""`evaluate MODEL`: attack it, show the report, and write it."""

import argparse
import importlib.util
import pathlib

from keras_wp import _kinds, _names
from keras_wp.cli import arguments, data, files, models, pixels, verdict

HELP = "attack a model and report what resists"
DESCRIPTION = f"""\
Attack a model and report which images resist.

Attacks are named with commas between them. A name is a kind, one of
{_kinds.NAMES},
and what is not the default: steps (pgd40), restarts (pgd40x5), options after
dashes (pgd40-margin, apgd-dlr, apgd-t, fgsm-l2, fab-t4), and arguments after a
colon, with commas, too (square:queries=1000, pgd:steps=50,restarts=3). What has
an equals sign and no colon belongs to the name before it. Steps scale with
--eps, unless a set-up of the paper is asked for (pgd20-paper).
"""
_DEFAULT = "pgd40,autoattack"


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
    command.add_argument(
        "--shard",
        metavar="K/N",
        type=arguments.shard,
        help="evaluate one of N parts of the images, for `merge` to put "
        "together: those at the places K - 1, K - 1 + N, ..., from 0",
    )
    verdict.add_options(command)


def add_options(command):
    """What may follow every command that attacks."""
    add = command.add_argument
    data.add_options(command)
    pixels.add_options(command)
    models.add_options(command)
    add(
        "--attacks",
        metavar="NAMES",
        default=_DEFAULT,
        type=arguments.names,
        help=f"attacks by name (default: {_DEFAULT})",
    )
    add(
        "--eps",
        metavar="EPS",
        type=arguments.budgets,
        help="budgets, with commas: 0.3 or 2/255,8/255, or by norm: "
        "linf=8/255,l2=0.5 (default: the data set's own)",
    )
    add(
        "--norm",
        choices=_kinds.NORMS,
        help="the norm of attacks whose names do not say it",
    )
    add(
        "--output-name",
        metavar="NAME",
        help="which output are the classes, if the model has several",
    )
    add("--batch-size", metavar="N", type=arguments.count, default=128)
    add("--seed", metavar="N", type=int, default=0)
    add(
        "--audit",
        action=argparse.BooleanOptionalAction,
        help="say why numbers may be too good",
    )
    add(
        "--adaptive",
        action=argparse.BooleanOptionalAction,
        help="add attacks that suit the model, such as through surrogates",
    )
    add(
        "--certify",
        action="store_true",
        help="prove what no attack in l2 can break, and attack the rest",
    )
    add(
        "--cluster",
        metavar="ray[=ADDRESS]",
        type=arguments.cluster,
        help="run attacks on actors of Ray: one for each GPU or core of this "
        "machine, or of the cluster at an address (auto for the one that this "
        "machine belongs to)",
    )
    files.add_reports(command)
    add(
        "--resume-dir",
        metavar="DIR",
        type=pathlib.Path,
        help="keep outcomes here as they come about, and continue from there "
        "after an interruption",
    )


def check(args):
    """What can be found wrong before anything is loaded."""
    models.check(args.model)
    check_options(args)
    files.prepare([args.save_adversarial], (".npz",))
    if args.shard and not any(p.suffix == ".json" for p in args.reports):
        raise ValueError(
            "--shard needs --report FILE.json, for `merge` to read. Received: "
            "no such file"
        )
    verdict.check(args)


def check_options(args):
    """Check what `add_options` adds, and read its names."""
    data.check(args)
    pixels.check(args)
    if args.cluster and importlib.util.find_spec("ray") is None:
        raise ImportError(
            "--cluster ray needs Ray: pip install 'keras_wp[ray]'"
        )
    if args.norm:
        args.attacks = [_in_norm(name, args.norm) for name in args.attacks]
    read = [_names.read(name) for name in args.attacks]
    used = {fields.get("norm", _usual_norm(kind)) for kind, fields in read}
    if isinstance(args.eps, list) and len(used) > 1:
        raise ValueError(
            "--eps must name the norm of each budget when the attacks use "
            "several, as in linf=8/255,l2=0.5. Received: no norm for attacks "
            f"in {' and '.join(sorted(used))}"
        )
    if isinstance(args.eps, dict) and used != set(args.eps):
        raise ValueError(
            "--eps must hold budgets in the norms of the attacks. Received: "
            f"{' and '.join(sorted(args.eps))} for attacks in "
            f"{' and '.join(sorted(used))}"
        )
    own = ["eps" in fields for _, fields in read]
    if args.eps is not None and any(own):
        raise ValueError(
            "The budget of an attack must be given once, by --eps or in its "
            f"name. Received: both, for {args.attacks[own.index(True)]!r}"
        )
    args.budgets = args.data.removeprefix("tfds:")
    if args.budgets not in _kinds.BUDGETS:
        if args.eps is None and not all(own):
            raise ValueError(
                "--eps must be given, as in --eps 8/255, for data that have "
                "no usual budget: only "
                f"{', '.join(_kinds.BUDGETS)} have. Received: no --eps for "
                f"{args.data!r}"
            )
        args.budgets = "cifar10"  # In no use: --eps or the names have all.
    files.prepare(args.reports, files.SUFFIXES)


def run(args):
    """Run the command."""
    from keras_wp.cli import attacking

    model = models.load(args.model, args.imports)
    images = pixels.unit(data.load(args, model), args)
    options = {"save_adversarial": args.save_adversarial}
    if args.shard:
        options["shard"] = args.shard
    report = attacking.attacked(args, model, images, **options)
    files.show(report)
    for path in args.reports:
        files.write(report, path, class_names=images.class_names)
    files.tell([*args.reports, args.save_adversarial])
    return verdict.reached(report, args)


def _in_norm(name, norm):
    """The name of an attack in a norm, if it does not say another."""
    if "norm" in _names.read(name)[1]:
        return name
    return f"{name}{',' if ':' in name else ':'}norm={norm}"


def _usual_norm(kind):
    return "l2" if kind == "cw" else "linf"
