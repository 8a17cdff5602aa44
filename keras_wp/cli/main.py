"""The entry: parse, run, and turn errors into one sentence."""

import argparse
import difflib
import re
import sys
import warnings

from keras_wp import _startup
from keras_wp._version import __version__
from keras_wp.cli import compare, evaluate, info, merge

COMMANDS = {
    "evaluate": evaluate,
    "merge": merge,
    "compare": compare,
    "info": info,
}

# What users can mend: files, names, numbers, and packages that are missing.
_EXPECTED = (ValueError, OSError, ImportError)
_DESCRIPTION = """\
How robust is an image classifier, truly?

MODEL is a .keras or .h5 file, or the directory of a SavedModel.
"""
_EXAMPLES = """\
examples:
  {program} evaluate model.keras --data mnist --attacks pgd40,autoattack \\
      --eps 0.3 --report report.html
  {program} evaluate model.h5 --data photos/ --bounds 0,255 --eps 8/255 \\
      --attacks pgd:steps=50,restarts=3,square:queries=1000
  {program} compare plain.keras robust.keras --data cifar10 --eps 2/255,8/255
  {program} evaluate model.keras --data cifar10 --shard 3/16 --report 3.json
  {program} merge 1.json 2.json 3.json --report report.html
  {program} info model.keras

exit codes: 0; 2 for bad input; 3 if what --fail-under asks for is not reached;
130 after Ctrl-C
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, without the whole usage."""

    def error(self, message):
        self.exit(2, f"keras_wp: error: {message} (see {self.prog} -h)\n")

    def refuse(self, unknown):
        """Say which arguments there are not, and which may be meant."""
        told = [text for text in unknown if text.startswith("-")] or unknown
        for place, text in enumerate(told):
            near = difflib.get_close_matches(
                text.partition("=")[0], self._option_string_actions, 1
            )
            told[place] += f" (did you mean {near[0]}?)" if near else ""
        self.error(f"unrecognized arguments: {' '.join(told)}")


def program():
    """How this program is called, as a user would."""
    installed = _startup.is_installed_command()
    return _startup.PROGRAM if installed else "python -m keras_wp"


def parser():
    """The parser of the command line."""
    top = _Parser(
        prog=program(),
        description=_DESCRIPTION,
        epilog=_EXAMPLES.format(program=program()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument(
        "--version", action="version", version=f"keras_wp {__version__}"
    )
    commands = top.add_subparsers(
        dest="command", required=True, metavar="COMMAND"
    )
    for name, command in COMMANDS.items():
        added = commands.add_parser(
            name,
            help=command.HELP,
            description=getattr(command, "DESCRIPTION", command.HELP),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.set_defaults(refuse=added.refuse)
        command.add_arguments(added)
    return top


def main(argv=None):
    """Run a command.

    Args:
        argv: The arguments, without the program's name. Defaults to those of
            this process.

    Returns:
        The exit code: 0; 2 for bad input; 3 if less is robust than
        `--fail-under` asks for; 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args, unknown = parser().parse_known_args(_joined(argv))
        if unknown:
            args.refuse(unknown)
    except SystemExit as end:
        return end.code
    args.call = [*program().split(), *argv]
    command = COMMANDS[args.command]
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            command.check(args)
            _startup.load()
            return command.run(args) or 0
    except _EXPECTED as error:
        _tell("error", error, sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = (
            "the same command continues from there."
            if getattr(args, "resume_dir", None)
            else "with --resume-dir it could continue later."
        )
        print(f"\nkeras_wp: interrupted; {hint}", file=sys.stderr)
        return 130


def _joined(argv):
    """The arguments, with values like `-1,1` joined to their options.

    They look like options themselves to argparse.
    """
    joined = []
    for argument in argv:
        value = re.match(r"-[\d.]", argument)
        if value and joined and re.fullmatch(r"--[a-z-]+", joined[-1]):
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _show_warning(message, category, filename, lineno, file=None, line=None):
    """A warning as a sentence: its line of code is no user's."""
    del category, filename, lineno, line
    _tell("warning", message, file or sys.stderr)


def _tell(kind, message, file):
    """Say something in one line."""
    print(f"keras_wp: {kind}: {' '.join(str(message).split())}", file=file)
