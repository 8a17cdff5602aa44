"""The attacks that a model's construction calls for, chosen by itself.

Some know what is inside: surrogates of the operations that lose gradients,
wherever they are. Others need not know: gradients averaged over noise, points
found for other images, and a search without gradients. The cheapest come
first, and each is given up as soon as it fools none of a growing number of
images.

Sources: Athalye et al., "Obfuscated gradients give a false sense of security"
(ICML 2018); Tramèr et al., "On adaptive attacks to adversarial example
defenses" (NeurIPS 2020), which finds an attack for each defense by hand;
Carlini and Wagner, "Towards evaluating the robustness of neural networks"
(2017), on losses without a scale; Andriushchenko et al., "Square attack"
(ECCV 2020).
"""

import dataclasses
from typing import ClassVar

from keras_wp.attacks import APGD, InTurn, Square
from keras_wp.attacks.surrogate import Surrogate, drawn

NAME = "adaptive"
# APGD needs no step size, and comes close to its end in so many steps.
STEPS = 40
# Through a surrogate, whose gradient leads to its own boundaries, from several
# starts: only models that lose gradients, or may do so unseen, pay for these.
FITTED_STEPS, FITTED_RUNS = 100, 3
# Few images are fooled as another than the likeliest classes.
TARGETS = 4
# Of the noise, as a share of the budget: for masks of several widths.
NOISES = (0.25, 0.5, 1.0)
# Steps with a gradient of 16 copies each.
NOISY_STEPS = 20
# Of the search without gradients.
QUERIES = 1000
# Of the attack that begins where other images were fooled.
FOLLOWING_STEPS = 20
# An attack that fools none of so many images finds, with a certainty of 95 %,
# less than 5 % of the others.
PATIENCE = 64

OF_LAST = (
    Surrogate(rescale="image"),
    Surrogate(rescale="unit"),
    Surrogate(activation="linear"),
)
OF_EVERY = tuple(dataclasses.replace(s, at="every") for s in OF_LAST)
STANDARDIZE = Surrogate(standardize=True)
# Where one of these loses gradients, it matters where a slope is taken.
_SLOPED = frozenset({"saturating", "step"})


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class FollowingAPGD(APGD):
    """`APGD` that begins at a point which fooled the model for another image.

    Only in an evaluation: it offers perturbations of images of the same
    class, and the most promising one is where the run begins.
    """

    wants_start: ClassVar[bool] = True

    @property
    def default_name(self):
        return f"{super().default_name} from others' points"


def fitting(opened):
    """The surrogates for what a model is found to be made of.

    Args:
        opened: An `inspection.masking.Opened`.

    Returns:
        A tuple of `Surrogate`, the most promising first; empty if nothing
        that was found loses gradients, or the model cannot be opened.
    """
    masks = opened.masks
    if not masks:
        return ()
    kinds = {site.kind for site in masks}
    if not kinds & _SLOPED:
        return OF_EVERY[1:] if "comparing" in kinds else OF_EVERY[-1:]
    alone = opened.last is not None and masks == (opened.last,)
    if alone:
        return OF_LAST
    if opened.last in masks:
        return (*OF_EVERY, *OF_LAST)
    return OF_EVERY


def told(opened, surrogates):
    """What was found in a model and tried, in a sentence."""
    parts = []
    if surrogates:
        labels = ", ".join(dict.fromkeys(s.label for s in surrogates))
        where = ", ".join(dict.fromkeys(site.name for site in opened.masks))
        parts.append(f"surrogate gradients tried: {labels} (of {where})")
    idle = [s.name for s in opened.sites if not s.masks and s.kind != "bending"]
    if idle:
        names = ", ".join(dict.fromkeys(idle))
        parts.append(f"not tried, as gradients pass through: {names}")
    if opened.why:
        parts.append(f"could not be opened: {'; '.join(opened.why)}")
    return ". ".join(parts) or "nothing found that loses gradients"


def attack(surrogates, norm, eps, bounds, *, draws=None, closed=False):
    """Everything that is tried, as one attack.

    Args:
        surrogates: `Surrogate`s, the most promising first.
        norm: `"linf"` or `"l2"`.
        eps: Radius of the ball.
        bounds: Lowest and highest value of a pixel.
        draws: How many draws of a randomized model a gradient is taken of.
        closed: Whether some of the model could not be opened. What may be in
            there is met by more steps and starts.
    """
    common = {"eps": eps, "norm": norm, "bounds": bounds}

    def apgd(surrogate=None, loss="margin", steps=STEPS, **options):
        return APGD(
            loss=loss,
            steps=steps,
            surrogate=surrogate,
            **common,
            **options,
        )

    more = {"steps": FITTED_STEPS, "restarts": FITTED_RUNS}
    own = more if closed else {}
    members = [apgd(surrogate, **more) for surrogate in surrogates]
    best = next((s for s in surrogates if s.model is None), None)
    members += [
        apgd(**own),
        apgd(STANDARDIZE, "cross_entropy", **own),
        apgd(best, targets=TARGETS),
    ]
    members += [
        apgd(Surrogate(noise=noise), steps=NOISY_STEPS) for noise in NOISES
    ]
    members += [
        FollowingAPGD(loss="margin", steps=FOLLOWING_STEPS, **common),
        Square(steps=QUERIES, **common),
    ]
    if draws is not None:
        members = [expected(member, draws) for member in members]
    return InTurn(members=members, name=NAME, patience=PATIENCE)


def expected(attack, draws):
    """An attack on the expectation of a randomized model's logits.

    Args:
        attack: An `Attack`. One that has its own number of draws, or noise,
            stays as it is.
        draws: How many draws a gradient is taken of.
    """
    if isinstance(attack, InTurn):
        members = [expected(member, draws) for member in attack.members]
        return dataclasses.replace(attack, members=members)
    own = attack.surrogate
    once = own is None and draws == 1
    if once or getattr(attack, "version", None) == "rand":
        return attack
    surrogate = drawn(own, draws)
    if surrogate is own:
        return attack
    return dataclasses.replace(attack, surrogate=surrogate, name=attack.label)


def asked(adaptive):
    """The user's surrogates, from the argument `adaptive` of `evaluate`.

    Raises:
        ValueError: If it is not a boolean, a surrogate, or several.
    """
    if isinstance(adaptive, bool):
        return ()
    if isinstance(adaptive, Surrogate):
        adaptive = [adaptive]
    if isinstance(adaptive, (list, tuple)) and all(
        isinstance(surrogate, Surrogate) for surrogate in adaptive
    ):
        return tuple(adaptive)
    raise ValueError(
        "Argument `adaptive` must be True, False, a `keras_wp.Surrogate`, or "
        f"a list of them. Received: adaptive={adaptive!r}"
    )
