"""Python programs in processes of their own, as tests start them.

To import the frameworks takes longer than most of what these programs do. So
they are forked from a process that has imported them, unless they are given a
variable that is read at that time. Nothing of this package is imported here,
as some programs are there to show that they do without it.
"""

import multiprocessing
import os
import pathlib
import runpy
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
SUPPORT = ROOT / "tests" / "support"
LIMIT = 300  # seconds

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["keras", "tensorflow"])
_READ_AT_IMPORT = ("KERAS_", "TF_", "JAX_", "CUDA_")


def environment(**variables):
    """The variables of this process, and others; this package is found."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **variables}


def run_python(*arguments, timeout=LIMIT, cwd=None, **variables):
    """Run a program to its end.

    Args:
        *arguments: What follows `python`: a script, `"-m"` and a module, or
            `"-c"` and a text; and their arguments.
        timeout: Seconds after which it is killed.
        cwd: Its folder, if not that of this process.
        **variables: Environment variables to set.

    Returns:
        A `subprocess.CompletedProcess`.

    Raises:
        subprocess.TimeoutExpired: If it takes longer than that.
    """
    arguments = [*map(str, arguments)]
    changed = dict(variables.items() - os.environ.items())
    if any(name.startswith(_READ_AT_IMPORT) for name in changed):
        return subprocess.run(
            [sys.executable, *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            cwd=cwd,
            env=environment(**variables),
        )
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder, n) for n in ("stdout", "stderr")]
        process = start_python(*arguments, to=paths, cwd=cwd, **variables)
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(arguments, timeout)
        texts = [path.read_text() for path in paths]
        code = process.exitcode
        return subprocess.CompletedProcess(arguments, code, *texts)


def start_python(*arguments, to, cwd=None, **variables):
    """Start a program; `to` are the files for its output and its errors.

    Returns:
        A `multiprocessing.Process`.
    """
    from keras_wp import _startup

    process = _FORKS.Process(
        target=_run,
        args=(
            [*map(str, arguments)],
            environment(**variables),
            os.fspath(cwd or os.getcwd()),
            [os.fspath(path) for path in to],
        ),
    )
    # What is forked from writes log lines when it imports the frameworks.
    with _startup.without_stderr():
        process.start()
    return process


def _run(arguments, variables, cwd, to):
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(cwd)
    for descriptor, path in enumerate(to, start=1):
        with open(path, "ab") as file:
            os.dup2(file.fileno(), descriptor)
    sys.orig_argv = [sys.executable, *arguments]
    sys.path[1:1] = filter(None, variables["PYTHONPATH"].split(os.pathsep))
    if arguments[0] == "-c":
        sys.argv, sys.path[0] = ["-c", *arguments[2:]], ""
        exec(
            compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"}
        )
        return
    if arguments[0] == "-m":
        sys.argv, sys.path[0] = arguments[1:], ""
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv, sys.path[0] = arguments, os.path.dirname(arguments[0])
    runpy.run_path(arguments[0], run_name="__main__")
