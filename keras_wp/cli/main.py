"""The entry: parse, run, and turn errors into one sentence."""

import argparse
import sys
import warnings

from keras_wp.cli import compare, evaluate, info

COMMANDS = {"evaluate": evaluate, "compare": compare, "info": info}

# What users can mend: files, names, numbers, and packages that are missing.
_EXPECTED = (ValueError, OSError, ImportError)
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
    for name, command in COMMANDS.items():
        command.add_arguments(commands.add_parser(name, help=command.HELP))
    return top


def main(argv=None):
    """Run a command.

    Args:
        argv: The arguments, without the program's name. Defaults to those of
            this process.

    Returns:
        The exit code: 0; 2 for bad input; 130 after Ctrl-C.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    try:
        args = parser().parse_args(argv)
    except SystemExit as end:
        return end.code
    args.argv = argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            COMMANDS[args.command].run(args)
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
    return 0


def _show_warning(message, category, filename, lineno, file=None, line=None):
    """A warning as a sentence: its line of code is no user's."""
    del category, filename, lineno, line
    _tell("warning", message, file or sys.stderr)


def _tell(kind, message, file):
    """Say something in one line."""
    print(f"keras_wp: {kind}: {' '.join(str(message).split())}", file=file)
