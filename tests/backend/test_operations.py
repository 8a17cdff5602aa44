"""What the rest of the library asks of a backend, each of them has."""

import ast
import pathlib
import re

import pytest

import keras_wp

FOLDER = pathlib.Path(keras_wp.__file__).parent / "_backend"


def asked_for():
    text = ast.get_docstring(ast.parse((FOLDER / "__init__.py").read_text()))
    return set(re.findall(r"^- `(\w+)", text, re.MULTILINE)) | {"ANYWHERE"}


def offered(backend):
    """The public names of a module, read without importing the backend."""
    found = set()
    for node in ast.parse((FOLDER / f"{backend}.py").read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = (each for to in node.targets for each in ast.walk(to))
            found |= {each.id for each in names if isinstance(each, ast.Name)}
    return {name for name in found if not name.startswith("_")}


@pytest.mark.once
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
def test_a_backend_has_what_is_asked_for(backend):
    assert offered(backend) == asked_for()
