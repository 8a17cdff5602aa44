"""A frozen dataclass whose fields are the flags of a program."""

import dataclasses
import types
import typing

from absl import app, flags


def option(default, text, choices=None, least=None):
    """A field of a configuration, which is a flag, too.

    Args:
        default: Its value unless told otherwise.
        text: What `--help` says of it.
        choices: The values that it may have, or None.
        least: The least value that it may have, or None.
    """
    metadata = {"text": text, "choices": choices, "least": least}
    return dataclasses.field(default=default, metadata=metadata)


def as_flags(values):
    """Fields as they are given on a command line: a list of text."""
    return [f"--{name}={_text(value)}" for name, value in values.items()]


def _text(value):
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return str(value)


def define(options, values):
    """Define a flag for each field of a dataclass, among absl's `values`."""
    kinds = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        told, kind = field.metadata, _plain(kinds[field.name])
        common = {
            "name": field.name,
            "default": getattr(options, field.name),
            "help": told["text"],
            "flag_values": values,
        }
        if told["choices"] is not None:
            flags.DEFINE_enum(enum_values=list(told["choices"]), **common)
        elif kind is bool:
            flags.DEFINE_bool(**common)
        elif kind is str:
            flags.DEFINE_string(**common)
        elif kind is int:
            flags.DEFINE_integer(lower_bound=told["least"], **common)
        elif kind is float:
            flags.DEFINE_float(lower_bound=told["least"], **common)
        else:
            flags.DEFINE_list(**{**common, "default": [*common["default"]]})


def _plain(kind):
    """The type itself of one that may be None, too."""
    if isinstance(kind, types.UnionType):
        return next(k for k in typing.get_args(kind) if k is not type(None))
    return kind


def given(options, values):
    """The fields that a parsed command line gives: `{field: value}`."""
    found = {}
    for field in dataclasses.fields(options):
        flag = values[field.name]
        if not flag.using_default_value:
            several = isinstance(flag.value, list)
            found[field.name] = tuple(flag.value) if several else flag.value
    return found


def parse(options, words):
    """The fields that the words of a command line give: `{field: value}`."""
    values = flags.FlagValues()
    define(options, values)
    values(["", *(word for word in words if word.startswith("--"))])
    return given(options, values)


def run(main, options, argv):
    """Read a command line, and call `main` with what it says.

    Args:
        main: A function of `options`, of the fields that were given as a
            dictionary, and of the arguments after `--` as a list.
        options: An instance of a dataclass whose fields are made by `option`.
        argv: The program's name, and its arguments.
    """
    values = flags.FLAGS
    define(options, values)
    app.run(lambda left: main(options, given(options, values), left[1:]), argv)
