"""Models from files."""

import inspect
import pathlib
import sys
import zipfile

_KINDS = ".keras or .h5 file, or the directory of a SavedModel"
_HDF5 = b"\x89HDF\r\n\x1a\n"


def add_options(command):
    """What may be said of models."""
    command.add_argument(
        "--import",
        dest="imports",
        metavar="MODULE",
        action="append",
        default=[],
        help="a module, or a .py file, that defines layers or models of your "
        "own; may be given several times",
    )


def check(path):
    """Make sure, before anything is loaded, that there is a model.

    Raises:
        ValueError: If there is none, or its file is torn.
    """
    path = pathlib.Path(path)
    if path.is_dir() and (path / "saved_model.pb").is_file():
        return
    if not path.is_file():
        raise ValueError(
            f"MODEL must be a {_KINDS}. Received: {str(path)!r}, which is "
            + ("another directory" if path.is_dir() else "not there")
        )
    if path.suffix == ".keras":
        whole = zipfile.is_zipfile(path)
    elif path.suffix in (".h5", ".hdf5"):
        with path.open("rb") as file:
            whole = file.read(len(_HDF5)) == _HDF5
    else:
        raise ValueError(f"MODEL must be a {_KINDS}. Received: {str(path)!r}")
    if not whole:
        raise ValueError(
            f"MODEL must be a {_KINDS}, and whole. Received: {str(path)!r}, "
            f"which is not what Keras writes as {path.suffix}"
        )


def load(path, imports=()):
    """A model from a `.keras` or `.h5` file or the directory of a SavedModel.

    Args:
        path: Where it is.
        imports: Modules, or paths of `.py` files, with what is custom in it.

    Returns:
        A Keras model, or a `SavedModel`.

    Raises:
        ValueError: If there is none, or it cannot be read.
    """
    import keras

    from keras_wp._backend.saved_model import SavedModel

    check(path)
    path = pathlib.Path(path)
    if path.is_dir():
        return SavedModel(path)
    objects = {}
    for name in imports:
        objects |= _objects(name)
    try:
        return keras.saving.load_model(
            path, compile=False, custom_objects=objects
        )
    except Exception as error:
        # Keras raises whatever a layer's constructor does.
        raise ValueError(
            f"The model {str(path)!r} could not be loaded. Received: "
            f"{type(error).__name__}: {_reason(error)}{_hint(error)}"
        ) from error


def _objects(name):
    """The classes and functions that a module defines, by name."""
    import importlib
    import importlib.util

    path = pathlib.Path(name)
    try:
        if path.suffix == ".py":
            spec = importlib.util.spec_from_file_location(path.stem, path)
            module = importlib.util.module_from_spec(spec)
            sys.modules.setdefault(path.stem, module)
            spec.loader.exec_module(module)
        else:
            # A console script does not look where it is started.
            if "" not in sys.path:
                sys.path.insert(0, "")
            module = importlib.import_module(name)
    except Exception as error:
        raise ValueError(
            f"--import {name} failed. Received: {type(error).__name__}: {error}"
        ) from error
    return {
        key: value
        for key, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    }


def _reason(error):
    """What went wrong, without the configuration that Keras prints first."""
    text = " ".join(str(error).split())
    # The innermost cause comes last, after the layers that hold it.
    *_, text = text.split("Exception encountered: ")
    for start in ("Full object config:", "config={"):
        text = text.split(start)[0]
    return text.strip()


def _hint(error):
    unknown = ("could not locate", "unknown layer", "unrecognized", "unknown")
    if any(words in str(error).lower() for words in unknown):
        return " (--import MODULE, if it is a class of your own)"
    return ""


def image_shape(model):
    """The shape of one image, None where it may vary; () if it is not known."""
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple):
        return ()
    return shape[1:] if hasattr(model, "count_params") else shape


def num_classes(model):
    """How many classes a model tells apart; None if it does not say."""
    shape = getattr(model, "output_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 2:
        return None
    # A single output tells two classes apart.
    return 2 if shape[-1] == 1 else shape[-1]


def has_gradients(model):
    """Whether attacks can follow the model's gradients."""
    return getattr(model, "differentiable", True)
