"""What commands write, and what they print."""

import pathlib
import sys

SUFFIXES = (".html", ".json", ".md")


def add_reports(command):
    """The option of the reports to write."""
    command.add_argument(
        "--report",
        "--output",
        dest="reports",
        metavar="FILE",
        action="append",
        default=[],
        type=pathlib.Path,
        help="write a report, by its suffix: .html, .json or .md; may be "
        "given several times",
    )


def prepare(paths, suffixes):
    """Make sure, before any work, that files can be written there."""
    for path in filter(None, paths):
        if path.suffix not in suffixes:
            raise ValueError(
                "What is written must be a file with the suffix "
                f"{' or '.join(suffixes)}. Received: {str(path)!r}"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        there = path.exists()
        with path.open("a"):
            pass
        if not there:
            path.unlink()


def write(result, path, **options):
    """Write a report or a comparison, by the path's suffix."""
    if path.suffix == ".html":
        result.to_html(path, **options)
    elif path.suffix == ".json":
        result.to_json(path)
    else:
        result.to_markdown(path)


def show(result):
    """Print a report or a comparison."""
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(result)
    else:
        say(result)


def tell(paths):
    """Say which files were written."""
    written = [str(path) for path in paths if path]
    if written:
        say(f"\nWritten: {', '.join(written)}")


def say(text):
    """Print a text at once."""
    print(text, flush=True)


def note(text):
    """Say something beside the result."""
    print(f"keras_wp: {text}", file=sys.stderr)
