"""How attacks are named: `pgd40`, `apgd-dlr`, `square:queries=1000`.

A name is a kind, a number of steps, options after dashes, and arguments after a
colon. Whatever is read here is read without Keras, so that the command line can
refuse a slip at once; `keras_wp.attacks.get` makes attacks of it.
"""

import re

from keras_wp._kinds import KINDS, NAMES, NORMS, STANDARD_TARGETS

_NAME = re.compile(r"([a-z]+?)(\d+)?(?:x(\d+))?((?:-\w+)*)(?::(.*))?")


def split(text):
    """The names in a text with commas.

    A part with an equals sign and no colon is one more argument of the name
    before it; anything else begins a name. So
    `"pgd:steps=50,restarts=3,autoattack"` are two.
    """
    names = []
    for part in text.split(","):
        if names and "=" in part and ":" not in part:
            names[-1] += f",{part.strip()}"
        elif part.strip():
            names.append(part.strip())
    return names


def read(name):
    """What a name asks for.

    Args:
        name: Such as `"pgd40"`, `"apgd-t"` or `"square:queries=1000"`. Labels
            of attacks are names, too: `"PGD20x5-margin:step_size=0.01"`.

    Returns:
        `(kind, fields)`: a key of `KINDS`, and the arguments for its class.

    Raises:
        ValueError: If there is no such attack, or no such argument of it.
    """
    text = name.lower().replace("&", "") if isinstance(name, str) else ""
    found = _NAME.fullmatch(text.strip())
    if found is None or found[1] not in KINDS:
        raise ValueError(
            f"An attack must be named as one of {NAMES}, with steps, options "
            "or arguments, as in pgd40, apgd-dlr or square:queries=1000. "
            f"Received: {name!r}"
        )
    word, steps, restarts, options, arguments = found.groups()
    kind, fields, as_published = KINDS[word], {}, False
    counts = {"steps": steps, "restarts": restarts}
    for field, number in counts.items():
        if number is not None:
            _set(fields, _argument(word, field, number, name), name)
    for option in options.split("-")[1:]:
        if option == "paper":
            as_published = True
        else:
            _set(fields, _option(word, option, name), name)
    for part in filter(None, (arguments or "").split(",")):
        field, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(
                "Arguments of an attack must be given as in square:"
                f"queries=1000. Received: {name!r}"
            )
        _set(fields, _argument(word, field, value, name), name)
    if word == "apgd" and re.search(r"-t\d*(-|$)", options):
        fields.setdefault("loss", "dlr")
    if as_published:
        _set(fields, _paper(word, fields.get("steps"), name), name)
    return word, {**kind.usual, **fields}


def _set(fields, more, name):
    if twice := sorted(fields.keys() & more.keys()):
        raise ValueError(
            "The name of an attack must say each thing once. Received: "
            f"{' and '.join(twice)} twice in {name!r}"
        )
    fields |= more


def _argument(word, field, value, name):
    kind = KINDS[word]
    field = kind.also.get(field, field)
    if field not in kind.arguments:
        raise ValueError(
            f"The arguments of {word} must be among "
            f"{', '.join([*kind.arguments, *kind.also])}. Received: {field!r} "
            f"in {name!r}"
        )
    reader, expected = kind.arguments[field]
    try:
        return {field: reader(value)}
    except (ValueError, KeyError):
        raise ValueError(
            f"The argument {field} of {word} must be {expected}. Received: "
            f"{name!r}"
        ) from None


def _option(word, option, name):
    kind = KINDS[word]
    if option in kind.options:
        return kind.options[option]
    if option in NORMS:
        return _argument(word, "norm", option, name)
    if option == "targeted" and "targeted" in kind.arguments:
        return {"targeted": True}
    aims = re.fullmatch(r"t(\d*)", option)
    if aims and word in ("apgd", "fab"):
        count = aims[1] or str(STANDARD_TARGETS)
        return _argument(word, "targets", count, name)
    try:
        return _argument(word, "loss", option, name)
    except ValueError:
        raise ValueError(
            f"{word} has no option {option!r}: options are losses, norms and "
            "what sets an attack apart, as in pgd20-margin, fgsm-l2, apgd-t "
            f"or pgd40-paper. Received: {name!r}"
        ) from None


def _paper(word, steps, name):
    found = KINDS[word].paper
    if steps not in found:
        known = [
            f"{word}{steps}-paper"
            for word, kind in KINDS.items()
            for steps in kind.paper
        ]
        raise ValueError(
            f"The paper's set-ups are {', '.join(known)}. Received: {name!r}"
        )
    return found[steps]
