"""The Python call that makes a value again."""

import dataclasses


def call(name, instance):
    """The Python call that makes a frozen dataclass again.

    Without what is the default; `...` stands for what has no short form.
    """
    given = []
    for field in dataclasses.fields(instance):
        value = getattr(instance, field.name)
        if not _short(value):
            given.append(f"{field.name}=...")
        elif value != field.default:
            given.append(f"{field.name}={value!r}")
    return f"{name}({', '.join(given)})"


def _short(value):
    """Whether a value's `repr` is Python that makes it again."""
    if isinstance(value, tuple):
        return all(map(_short, value))
    plain = value is None or isinstance(value, (bool, int, float, str))
    return plain or dataclasses.is_dataclass(value)
