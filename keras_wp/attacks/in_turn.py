"""Several attacks as one: each for the images that have resisted so far."""

import abc
import dataclasses
from typing import ClassVar

from keras_wp._checks import check_at_least, check_positive
from keras_wp.attacks.base import Attack


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Suite(Attack, abc.ABC):
    """The base of attacks that consist of others, their `parts`."""

    needs_clean_logits: ClassVar[bool] = True

    @property
    @abc.abstractmethod
    def parts(self):
        """The attacks, in order."""

    @property
    def updates(self):
        raise self._refusal()

    def init(self, problem, run):
        raise self._refusal()

    def step(self, problem, state):
        raise self._refusal()

    def perturb(self, problem):
        raise self._refusal()

    def config(self):
        parts = [part.config() for part in self.parts]
        return {**super().config(), "parts": parts}

    def _refusal(self):
        kind = type(self).__name__
        return ValueError(
            f"{kind} is {len(self.parts)} attacks, each for the images that "
            "have resisted those before it, so it cannot run inside a "
            "training step: use one of its `parts`, or PGD"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class InTurn(Suite):
    """Attacks in turn, each on the images that have resisted those before.

    An image costs no more once it is fooled, so the attack to begin with is
    the one that fools most images for least.

    Args:
        members: The attacks, at least one. They share one norm, bounds, and
            budget, and look for any perturbation within it, not for the
            smallest one, nor for a class that is given (`targeted`).
        eps: Radius of the ball for all of them. Defaults to theirs.
        norm: That of the members, whatever is given.
        bounds: Those of the members, whatever is given.
        patience: In `keras_wp.evaluate`, a member that fools none of so many
            images is given up; one that does is tried on twice as many more,
            and so on. Defaults to all images for every member.
        seed: Unused, as the members have their own.
        name: How reports call the attack.
        surrogate: Must be None, as the members may have their own.

    Raises:
        ValueError: If an argument is not as described.

    Example:

    >>> surrogates = [
    ...     keras_wp.Surrogate(rescale="image"),
    ...     keras_wp.Surrogate(activation="linear"),
    ... ]
    >>> attack = keras_wp.attacks.InTurn(
    ...     members=[
    ...         keras_wp.attacks.APGD(eps=0.3, loss="margin", surrogate=s)
    ...         for s in surrogates
    ...     ]
    ... )
    >>> x_adv = attack(model, x, y)
    """

    members: tuple[Attack, ...]
    eps: float | None = None
    patience: int | None = None

    def __post_init__(self):
        if self.patience is not None:
            check_at_least(1, patience=self.patience)
        members = tuple(self.members)
        object.__setattr__(self, "members", members)
        for member in members:
            if not isinstance(member, Attack) or not hasattr(member, "eps"):
                raise ValueError(
                    "`members` must be attacks with a budget `eps`. "
                    f"Received: {member!r}"
                )
            several = len(member.parts) > 1
            if member.minimum_norm or several or member.targeted:
                raise ValueError(
                    "`members` must be single attacks that look for any "
                    "perturbation within their budget, to any wrong class. "
                    f"Received: {member.label}"
                )
        settings = {(m.norm, m.bounds) for m in members}
        budgets = {m.eps for m in members} if self.eps is None else {self.eps}
        if len(settings) != 1 or len(budgets) != 1:
            raise ValueError(
                "`members` must be at least one attack, and have one norm, "
                f"bounds and eps. Received: {len(members)} attacks with "
                f"{len(settings)} pairs of norm and bounds, and "
                f"{len(budgets)} budgets"
            )
        object.__setattr__(self, "norm", members[0].norm)
        object.__setattr__(self, "bounds", members[0].bounds)
        object.__setattr__(self, "eps", budgets.pop())
        check_positive(eps=self.eps)
        super().__post_init__()
        if self.surrogate is not None:
            raise ValueError(
                "`surrogate` belongs to the members. Received: "
                f"surrogate={self.surrogate!r}"
            )

    @property
    def parts(self):
        return tuple(
            dataclasses.replace(member, eps=self.eps) for member in self.members
        )

    @property
    def default_name(self):
        return ", then ".join(member.label for member in self.members)

    def with_bounds(self, bounds):
        members = [member.with_bounds(bounds) for member in self.members]
        return dataclasses.replace(self, members=members)

    def config(self):
        config = super().config()
        del config["members"]  # They are the parts.
        return config
