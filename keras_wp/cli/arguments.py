"""What may stand on the command line."""

import argparse
import math
import pathlib
from fractions import Fraction

from keras_wp.attacks import named

_DESCRIPTION = """\
How robust is an image classifier, truly?

MODEL is a .keras file or the directory of a SavedModel that returns logits.
"""
_EXAMPLES = """\
examples:
  python -m keras_wp evaluate model.keras --dataset mnist \\
      --attacks pgd40,autoattack --eps 0.3 --audit --report report.html
  python -m keras_wp compare plain.keras robust.keras --dataset cifar10 \\
      --attacks pgd20 --eps 2/255,8/255
  python -m keras_wp info model.keras
"""
SUFFIXES = (".html", ".json", ".md")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the whole usage."""

    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} -h)\n")


def parser():
    """The parser of the command line."""
    top = _Parser(
        prog="keras_wp",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    evaluate = commands.add_parser(
        "evaluate", help="attack a model and report what withstands"
    )
    evaluate.add_argument("model", metavar="MODEL", help="the model")
    _add_evaluation(evaluate)
    evaluate.add_argument(
        "--save-adversarial",
        metavar="FILE.npz",
        type=pathlib.Path,
        help="save every adversarial image",
    )
    compare = commands.add_parser(
        "compare", help="compare two models, image by image"
    )
    for letter in ("A", "B"):
        compare.add_argument(
            letter.lower(),
            metavar=letter,
            help="a model, or a report that was written as .json",
        )
    _add_evaluation(compare)
    info = commands.add_parser(
        "info", help="show a model's size and the geometry of its last layer"
    )
    info.add_argument("model", metavar="MODEL", help="the model")
    return top


def _add_evaluation(command):
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
        type=_names,
        help="names as in keras_wp.attacks.get, with commas "
        "(default: pgd40,autoattack)",
    )
    add(
        "--eps",
        metavar="EPS",
        type=budgets,
        help="budgets, with commas: 0.3 or 2/255,8/255, or by norm: "
        "linf=8/255,l2=0.5 (default: the data set's own)",
    )
    add("--limit", metavar="N", type=_count, help="use the first N images")
    add("--batch-size", metavar="N", type=_count, default=128)
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
        help="keep outcomes here as they come about, and go on from there "
        "after an interruption",
    )


def _names(text):
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError(
            f"expected names of attacks. Received: {text!r}"
        )
    unknown = [name for name in names if name not in named.NAMES]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"expected names among {', '.join(named.NAMES)}. "
            f"Received: {', '.join(unknown)}"
        )
    return names


def _count(text):
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"expected an integer of at least 1. Received: {text!r}"
        )
    return value


def budgets(text):
    """Budgets as `evaluate` takes them.

    Args:
        text: Numbers or fractions with commas, as `"2/255,8/255"`; a norm
            and an equals sign before the first of them hold for it and those
            after it, as `"linf=2/255,8/255,l2=0.5"`.

    Returns:
        A list of numbers, or a dictionary from norm to such a list.
    """
    found, norm = {}, None
    for part in text.split(","):
        name, equals, number = part.rpartition("=")
        if equals:
            norm = name.strip()
        found.setdefault(norm, []).append(_budget(number, text))
    if None not in found:
        return found
    if len(found) > 1:
        raise argparse.ArgumentTypeError(
            f"expected a norm before the first budget. Received: {text!r}"
        )
    return found[None]


def _budget(number, text):
    try:
        value = float(Fraction(number.strip()))
    except (ValueError, ZeroDivisionError, OverflowError):
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(
            "expected numbers or fractions above 0, such as 0.3 or 8/255. "
            f"Received: {text!r}"
        )
    return value
