"""Where in a model gradients are lost, and what to use in their place.

An operation that levels off, rounds, compares or picks passes little of a
gradient on, at whatever depth it sits. It is told by what it does to numbers,
not by its name, and measured where the images are.
"""

import dataclasses

from keras import ops

from keras_wp.inspection.anatomy import dissect
from keras_wp.inspection.behavior import COMPARISONS, MANY, behavior
from keras_wp.inspection.stand_ins import derivative_of, stand_ins


@dataclasses.dataclass(frozen=True)
class Site:
    """An operation through which gradients may get lost.

    Attributes:
        places: The places of its steps in the anatomy, in order.
        kind: `"saturating"`, `"step"` (as a sign), `"rounding"`,
            `"normalizing"` (as a softmax), `"comparing"`, `"selecting"`,
            `"detached"` (linear, with a derivative that is not its own, as
            `stop_gradient`), or `"bending"` for any other activation.
        name: What the operation is called.
        lost: The share of the units, on the images looked at, where its slope
            is below a thousandth of the steepest.
        gain: By how much its argument is steeper than usual: it is steep up
            to about `1 / gain`. Of a detached one, its slope.
    """

    places: tuple[int, ...]
    kind: str
    name: str
    lost: float
    gain: float = 1.0

    @property
    def masks(self):
        """Whether so much is lost that another gradient is worth a try."""
        return self.kind != "bending" and self.lost >= MANY


@dataclasses.dataclass(frozen=True)
class Opened:
    """A model as far as it could be opened, and seen to be the same model.

    Attributes:
        anatomy: Its `Anatomy`, or None.
        sites: Its `Site`s.
        why: What could not be opened or used, in words, one for each.
    """

    anatomy: object
    sites: tuple[Site, ...] = ()
    why: tuple[str, ...] = ()

    @property
    def masks(self):
        """The sites that lose much of a gradient."""
        return tuple(site for site in self.sites if site.masks)

    def around(self, site):
        """`(before, after)`: functions of images to what a site turns to what.

        Args:
            site: One of the sites.
        """
        anatomy = self.anatomy
        first, last = (anatomy.steps[site.places[i]] for i in (0, -1))
        return (
            lambda x: anatomy(x, until=[first.inputs[0]])[0],
            lambda x: anatomy(x, until=[last.outputs[0]])[0],
        )

    @property
    def last(self):
        """The last site that levels off, or else the last activation."""
        decided = [s for s in self.sites if s.kind in ("saturating", "step")]
        bending = [s for s in self.sites if s.kind == "bending"]
        return next(reversed(decided or bending), None)


# So many images are looked at.
_IMAGES = 8


def open_up(model, call, x, view=None):
    """Take a model apart, and compare it with itself. Outside of a trace.

    Args:
        model: As for `anatomy.dissect`.
        call: Maps images to the model's logits in inference mode.
        x: Some images, `(N, ...)` float32.
        view: The `View` of the model, or None for the model as it is.

    Returns:
        An `Opened`.
    """
    x = x[:_IMAGES]
    found = (view.dissect if view else dissect)(model, x.shape[1:])
    why = tuple(f"{name}: {reason}" for name, reason in found.closed)
    if not found.steps or any(s.operation is model for s in found.steps):
        return Opened(None, why=why or ("nothing to open",))
    if not found.does_as(call, x):
        why += ("its operations in turn give other logits",)
        return Opened(None, why=why)
    kept = []
    for site in sites(found, x):
        reason = _no_stand_in(found, site, x)
        if reason is None:
            kept.append(site)
        else:
            why += (f"{site.name}: {reason}",)
    return Opened(found, tuple(kept), why)


def _no_stand_in(anatomy, site, x):
    """Why the model does not run with a stand-in for a site; None if it does.

    The stand-in of what gives whole numbers or truth values gives floating
    point numbers, which have a derivative, and which no table can be read by.
    """
    (output,) = anatomy.steps[site.places[-1]].outputs
    if "float" in output.dtype:
        return None
    try:
        anatomy(
            ops.convert_to_tensor(x),
            instead=stand_ins(anatomy, [site], derivative_of),
        )
    except Exception:  # Whatever the operation behind it makes of them.
        return f"what uses its values needs them as {output.dtype}"
    return None


def sites(anatomy, x):
    """The `Site`s of a model, from the first to the last.

    Args:
        anatomy: Its `Anatomy`.
        x: Some images, `(N, ...)` float32. Outside of a trace.
    """
    places = [i for i, s in enumerate(anatomy.steps) if _may_mask(s)]
    wanted = [anatomy.steps[i].inputs[0] for i in places]
    values = anatomy(ops.convert_to_tensor(x), until=wanted)
    seen = {
        place: behavior(anatomy.steps[place], u)
        for place, u in zip(places, values, strict=True)
    }
    found, merged = [], set()
    for place in places:
        what = seen[place]
        if what is None or place in merged:
            continue
        step = anatomy.steps[place]
        chain = (place,)
        if what.kind == "half":
            users = anatomy.users(step.outputs[0])
            after = seen.get(users[0]) if len(users) == 1 else None
            if after and after.kind == "half" and after.side != what.side:
                chain, merged = (place, users[0]), merged | {users[0]}
                lost = min(1.0, what.lost + after.lost)
                what = what._replace(kind="saturating", lost=lost)
            else:
                what = what._replace(kind="bending")
        found.append(Site(chain, what.kind, step.name, what.lost, what.gain))
    return tuple(found)


def _may_mask(step):
    """Whether a step is worth a look: a function of one value, or a choice."""
    kind = type(step.operation).__name__
    if getattr(step.operation, "passes_gradient", False):
        return False
    if kind in COMPARISONS or kind == "Where":
        return bool(step.inputs)
    if getattr(step.operation, "weights", ()) or len(step.outputs) != 1:
        return False
    (output,) = step.outputs
    distinct = {id(x) for x in step.inputs}
    return (
        len(distinct) == 1
        and "float" in step.inputs[0].dtype
        and output.shape == step.inputs[0].shape
    )
