"""A frozen dataclass whose fields are the flags of a program."""

import dataclasses
import functools
import sys
import types
import typing

from absl import app, flags

_DEFINE = {
    bool: flags.DEFINE_bool,
    str: flags.DEFINE_string,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    tuple[str, ...]: flags.DEFINE_list,
}


def option(default, text, choices=None, least=None, role=None):
    """A field of a configuration, which is a flag with this text for `--help`.

    Its role is None if it decides what is learned, or what a study is of;
    `"asked"` if it is what a trained model is asked; `"place"` if it says where
    something is, or how it is shared.
    """
    metadata = {"text": text, "choices": choices, "least": least, "role": role}
    return dataclasses.field(default=default, metadata=metadata)


asked = functools.partial(option, role="asked")
place = functools.partial(option, role="place")


def of_role(options, *roles):
    """The names of the fields that have one of these roles."""
    fields = dataclasses.fields(options)
    return [field.name for field in fields if field.metadata["role"] in roles]


def as_flags(values):
    """Fields as they are given on a command line: a list of text."""

    def text(value):
        several = isinstance(value, (list, tuple))
        return ",".join(map(str, value)) if several else value

    return [f"--{name}={text(value)}" for name, value in values.items()]


def one_of(known, **given):
    """End the program unless each of an option's values is a known one."""
    ((name, values),) = given.items()
    wrong = [value for value in values if value not in known]
    if wrong or not values:
        raise SystemExit(
            f"--{name} must be of {', '.join(known)}. "
            f"Received: {','.join(wrong) or 'none'}"
        )


def no_more(left):
    """End the program if its command line has more than flags."""
    if left:
        raise SystemExit(f"Flags begin with `--`. Received: {left[0]}")


def _define(options, values):
    """Define a flag for each field of a dataclass, among absl's `values`."""
    kinds = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        kind, told = kinds[field.name], field.metadata
        default, more = getattr(options, field.name), {}
        if isinstance(kind, types.UnionType):  # It may be None, too.
            kind, _ = typing.get_args(kind)
        define = _DEFINE[kind]
        if told["choices"]:
            define, more = flags.DEFINE_enum, {"enum_values": told["choices"]}
        elif kind in (int, float):
            more = {"lower_bound": told["least"]}
        elif isinstance(default, tuple):
            default = [*default]
        more |= {"default": default, "help": told["text"]}
        # Those of the program itself are the ones that `--help` lists.
        more |= {"flag_values": values, "module_name": sys.argv[0]}
        define(field.name, **more)


def _given(options, values):
    """The fields that a parsed command line gives: `{field: value}`."""
    found = {f.name: values[f.name] for f in dataclasses.fields(options)}
    return {
        name: tuple(flag.value) if type(flag.value) is list else flag.value
        for name, flag in found.items()
        if not flag.using_default_value
    }


def parse(options, words):
    """The fields that the words of a command line give: `{field: value}`."""
    values = flags.FlagValues()
    _define(options, values)
    values(["", *(word for word in words if word.startswith("--"))])
    return _given(options, values)


def run(main, options, argv):
    """Read a command line, `[program, ...]`, and call `main` with what it says.

    Its arguments are `options`, a dataclass whose fields are made by `option`;
    the fields that were given as a dictionary; and what follows `--`.
    """
    values = flags.FLAGS
    _define(options, values)
    app.run(lambda left: main(options, _given(options, values), left[1:]), argv)
