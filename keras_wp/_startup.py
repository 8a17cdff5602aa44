"""What precedes every other import: a quiet start of the package's programs.

To import TensorFlow writes lines that look like failures ("Could not find cuda
drivers") before any log level applies, and takes seconds. Where the package is
a program, nobody asked for the lines; and its command line has yet to be
understood, so that it loads the package only then. Where the package is a
library, everything is loaded and registered with Keras at once: whoever loads
a model after `import keras_wp` counts on it.
"""

import contextlib
import importlib
import importlib.machinery
import os
import pathlib
import sys

PROGRAM = "keras-wp"


def is_installed_command():
    """Whether this process runs the console script."""
    return pathlib.Path(sys.argv[0] if sys.argv else "").stem == PROGRAM


def _module_run():
    """The module that Python is importing this package to run with `-m`."""
    # Until the module to run is found, Python has "-m" stand for its path.
    if sys.argv[:1] != ["-m"] or "-m" not in sys.orig_argv:
        return ""
    return sys.orig_argv[sys.orig_argv.index("-m") + 1]


def is_command_line():
    """Whether Python is importing this package for its command line."""
    return is_installed_command() or _module_run() == __package__


def is_command():
    """Whether Python is importing this package to run something of it.

    The console script, a module with `-m`, or one of the examples beside it.
    """
    examples = pathlib.Path(__file__).parents[1] / "examples"
    script = pathlib.Path(sys.argv[0] if sys.argv else "").resolve()
    if script.suffix == ".py" and script.parent == examples:
        return True
    run = _module_run().split(".")[0]
    return run == __package__ or is_installed_command()


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


class _Quietly:
    """Has TensorFlow be imported without a word, whoever is first to do so.

    On other backends that is data, or Keras itself, and late.
    """

    def find_spec(self, name, path=None, target=None):
        """What finds the module to be imported, as Python asks for it."""
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module

            def exec_module(module):
                with without_stderr():
                    run(module)

            spec.loader.exec_module = exec_module
        return spec


def import_keras():
    """Import Keras without a word, or end with one sentence."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, _Quietly())
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


# Whether the package is not loaded yet, but for this.
deferred = is_command_line()


def load():
    """Load the package as `import keras_wp` does for its users."""
    global deferred
    if deferred:
        deferred = False
        import_keras()
        importlib.reload(sys.modules[__package__])


def load_for(name):
    """The package's `__getattr__`, for whoever asks before `load`."""
    if name.startswith("_") or not deferred:
        raise AttributeError(
            f"module {__package__!r} has no attribute {name!r}"
        )
    load()
    return getattr(sys.modules[__package__], name)


if is_command() and not deferred:
    import_keras()
