"""The kinds of attacks that have names, and what may be said of each.

Without Keras: see `keras_wp._names`, which reads names by this table.
"""

import dataclasses
import math
from fractions import Fraction

NORMS = ("linf", "l2")
# How many targets `t` stands for without a number: as in AutoAttack.
STANDARD_TARGETS = 9
_LOSSES = ("cross_entropy", "margin", "dlr")


def _whole(least):
    def read(text):
        value = int(text)
        if value < least:
            raise ValueError
        return value

    return read, f"an integer of at least {least}"


def _one_of(*words):
    def read(text):
        text = _SHORT.get(text, text)
        if text not in words:
            raise ValueError
        return text

    return read, f"one of {', '.join(words)}"


def _read_number(text):
    try:
        value = float(Fraction(text))
    except (ZeroDivisionError, OverflowError):
        raise ValueError from None
    if not 0 <= value < math.inf:
        raise ValueError
    return value


def _read_start(text):
    return "normal" if text == "normal" else _read_flag(text)


def _read_flag(text):
    return {"true": True, "yes": True, "false": False, "no": False}[text]


_SHORT = {"ce": "cross_entropy", "kl": "kl_divergence"}
_COUNT, _LOOKS, _SEED = _whole(1), _whole(0), (int, "an integer")
_NUMBER = _read_number, "a number or a fraction, as 0.1 or 2/255"
_FLAG = _read_flag, "true or false"
_START = _read_start, "true, false or normal"
_ANY = {"eps": _NUMBER, "norm": _one_of(*NORMS), "seed": _SEED}
_WITHIN = {**_ANY, "loss": _one_of(*_LOSSES), "targeted": _FLAG}
_RUNS = {"steps": _COUNT, "restarts": _COUNT}


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of attack.

    Attributes:
        made_by: Its class in `keras_wp.attacks`.
        arguments: What may be given, each as a pair: what reads it from a
            text, and what that text must be.
        usual: What is meant if nothing is said, where the class has no
            default.
        options: What further words stand for, each the fields that it sets.
        paper: What the set-ups of the paper set, by number of steps.
        also: Other names of arguments.
    """

    made_by: str
    arguments: dict
    usual: dict = dataclasses.field(default_factory=dict)
    options: dict = dataclasses.field(default_factory=dict)
    paper: dict = dataclasses.field(default_factory=dict)
    also: dict = dataclasses.field(default_factory=dict)


def _steps_of(short, *others):
    """The paper's Table 1: steps of 0.0031 or, of these, 0.01."""
    sizes = dict.fromkeys(short, 0.0031) | dict.fromkeys(others, 0.01)
    return {steps: {"step_size": size} for steps, size in sizes.items()}


KINDS = {
    "fgsm": Kind("FGSM", _WITHIN),
    "pgd": Kind(
        "PGD",
        {
            **_WITHIN,
            **_RUNS,
            "loss": _one_of(*_LOSSES, "kl_divergence"),
            "step_size": _NUMBER,
            "random_start": _START,
        },
        usual={"steps": 40},
        # 10 and 50 are in its Table 2.
        paper=_steps_of((10, 20, 50, 100), 40, 200),
    ),
    "apgd": Kind(
        "APGD", {**_WITHIN, **_RUNS, "targets": _COUNT, "rho": _NUMBER}
    ),
    "mta": Kind(
        "MultiTarget",
        {
            **_ANY,
            **_RUNS,
            "loss": _one_of("center", "margin"),
            "step_size": _NUMBER,
            "targets": _COUNT,
            "random_start": _FLAG,
            "published_sign": _FLAG,
        },
        usual={"steps": 100},
        options={"published": {"published_sign": True}},
        paper=_steps_of((100,), 200),
    ),
    "square": Kind(
        "Square",
        {
            **_WITHIN,
            **_RUNS,
            "p_init": _NUMBER,
            "rescale_schedule": _FLAG,
        },
        also={"queries": "steps"},
    ),
    "fab": Kind(
        "FAB",
        {
            **_ANY,
            **_RUNS,
            "targets": _COUNT,
            "alpha_max": _NUMBER,
            "eta": _NUMBER,
            "beta": _NUMBER,
            "final_search": _LOOKS,
            "early_stop": _FLAG,
        },
    ),
    "deepfool": Kind(
        "DeepFool",
        {
            **_ANY,
            "steps": _COUNT,
            "overshoot": _NUMBER,
            "candidates": _whole(2),
            "final_search": _LOOKS,
        },
        paper={50: {}},
    ),
    "cw": Kind(
        "CarliniWagner",
        {
            **_ANY,
            "norm": _one_of("l2"),
            "steps": _COUNT,
            "targeted": _FLAG,
            "binary_search_steps": _COUNT,
            "learning_rate": _NUMBER,
            "initial_const": _NUMBER,
            "confidence": _NUMBER,
        },
        paper={1000: {}},
    ),
    "autoattack": Kind(
        "AutoAttack",
        {
            **_ANY,
            "steps": _COUNT,
            "queries": _COUNT,
            "version": _one_of("standard", "rand"),
        },
        options={"rand": {"version": "rand"}},
    ),
}
# For messages and `--help`.
NAMES = ", ".join(KINDS)

# The paper's budgets, section 4: for l-infinity and for l2.
_DIGITS, _PHOTOS = {"linf": 0.3, "l2": 3.0}, {"linf": 8 / 255, "l2": 1.0}
BUDGETS = {
    "mnist": _DIGITS,
    "mnist5k": _DIGITS,
    "cifar10": _PHOTOS,
    "cifar100": _PHOTOS,
}
