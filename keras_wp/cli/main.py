"""The entry: parse, run, and turn errors into one sentence."""

import sys
import warnings

from keras_wp.cli import arguments, commands

# What users can mend: files, names, numbers, and packages that are missing.
_EXPECTED = (ValueError, OSError, ImportError)


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
        args = arguments.parser().parse_args(argv)
    except SystemExit as end:
        return end.code
    args.argv = argv
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            getattr(commands, args.command)(args)
    except _EXPECTED as error:
        _tell("error", error, sys.stderr)
        return 2
    except KeyboardInterrupt:
        hint = (
            "the same command goes on from there."
            if getattr(args, "resume_dir", None)
            else "with --resume-dir it could go on later."
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
