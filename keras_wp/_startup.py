"""What precedes every other import: a quiet start of the package's programs.

To import TensorFlow writes lines that look like failures ("Could not find cuda
drivers") before any log level applies. Where the package is a program, nobody
asked for them; where it is a library, they are its user's.
"""

import contextlib
import os
import pathlib
import sys


def is_command():
    """Whether Python is importing this package to run it with `-m`.

    Or to run one of the examples beside it.
    """
    examples = pathlib.Path(__file__).parents[1] / "examples"
    script = pathlib.Path(sys.argv[0] if sys.argv else "").resolve()
    if script.suffix == ".py" and script.parent == examples:
        return True
    # Until the module to run is found, Python has "-m" stand for its path.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return False
    name = sys.orig_argv[sys.orig_argv.index("-m") + 1]
    return name.split(".")[0] == __package__


@contextlib.contextmanager
def without_stderr():
    """Drop what is written to the file descriptor of the standard error."""
    try:
        kept = os.dup(2)
    except OSError:  # It is closed.
        yield
        return
    if sys.stderr is not None:
        sys.stderr.flush()
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


if is_command():
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with without_stderr():
            import keras  # noqa: F401
    except (ImportError, ValueError) as error:
        backend = os.environ.get("KERAS_BACKEND", "its own")
        reason = " ".join(str(error).split())
        if sys.stderr is not None:
            sys.stderr.write(
                "keras_wp: error: Keras cannot be imported with the backend "
                f"{backend}. Received: {reason}\n"
            )
        raise SystemExit(2) from None
