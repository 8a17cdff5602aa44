"""The import rule: downward only, and no backend outside `_backend`."""

import ast
import pathlib

import pytest

import keras_wp

pytestmark = pytest.mark.once


PACKAGE = pathlib.Path(keras_wp.__file__).parent

# The method, the networks and the data: a wing that stands on the ground.
WING = {
    "regularizers",
    "initializers",
    "layers",
    "lipschitz",
    "losses",
    "metrics",
    "models",
    "datasets",
    "_streams",
    "augmentation",
}
# A part may import those of the floors below, and of its own.
FLOORS = (
    {"_version", "_startup", "_backend", "_checks", "_noise", "inputs"}
    | {"_compiled", "_calls", "_files"},
    {"_units", "_first_batch"},
    {"_kinds"},
    {"_names"},
    {"simplex", "objectives"},
    {"norms", "inspection"} | WING,
    {"engine", "convert"},
    {"reports"},
    {"attacks"},
    {"defenses", "audit", "certificates"},
    {"cluster"},
    {"evaluation"},
    {"callbacks", "cli", "smoothing"},
    {"recipes"},
    {"__main__"},
    {"experiments"},
)
# What uses the package as its users do; nothing below imports it.
ROOF = {"experiments"}
# Attacks see a model through a problem only: they must serve any network.
# What was found knows nothing of how, and the other way round.
FORBIDDEN = {
    "attacks": WING | {"reports"},
    "reports": {"engine"},
    "audit": {"defenses"},
    "certificates": WING - {"lipschitz"} | {"attacks", "defenses", "audit"},
    "inspection": WING,
}
FLOOR_OF = {name: i for i, names in enumerate(FLOORS) for name in names}
BACKENDS = {"tensorflow", "tf_keras", "jax", "jaxlib", "flax", "torch"}


def module_files():
    return sorted(PACKAGE.rglob("*.py"))


def part_of(path):
    """The top-level part a file belongs to; "" for the package itself."""
    first = path.relative_to(PACKAGE).parts[0]
    name = first.removesuffix(".py")
    return "" if name == "__init__" else name


def imported_names(source, package):
    """Absolute dotted names that a source text imports, at any depth."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parents = parts[: len(parts) - node.level + 1]
                base = ".".join([*parents, *base.split(".")]).rstrip(".")
            yield from (f"{base}.{alias.name}" for alias in node.names)


def package_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).parent.parts)


def imported_parts(path):
    """The parts of this package that a file imports, its own left out."""
    for name in imported_names(path.read_text(), package_of(path)):
        root, *rest = name.split(".")
        if root == "keras_wp" and rest[:1] != [part_of(path)]:
            yield rest[0] if rest else ""


def violations(path):
    part = part_of(path)
    if not part:
        return []
    if part not in FLOOR_OF:
        return [f"{part} stands on no floor: give it one in FLOORS"]
    found = []
    for other in imported_parts(path):
        if not other and part not in ROOF:
            found.append(f"{part} imports the package itself")
        elif other and other not in FLOOR_OF:
            found.append(f"{part} imports {other}, which stands on no floor")
        elif other and FLOOR_OF[other] > FLOOR_OF[part]:
            found.append(f"{part} imports {other}, which is above it")
        elif other in FORBIDDEN.get(part, ()):
            found.append(f"{part} imports {other}")
    return found


def named_backends(path):
    names = imported_names(path.read_text(), package_of(path))
    return sorted({name.split(".")[0] for name in names} & BACKENDS)


@pytest.mark.parametrize(
    "path", module_files(), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_imports_run_downward_only(path):
    assert violations(path) == []


@pytest.mark.parametrize(
    "path", module_files(), ids=lambda path: str(path.relative_to(PACKAGE))
)
def test_backends_are_named_in_the_backend_package_only(path):
    if part_of(path) not in {"_backend", *ROOF}:
        assert named_backends(path) == []


def test_parts_of_the_package_do_not_import_each_other_in_a_circle():
    graph = {}
    for path in module_files():
        if part_of(path):
            graph.setdefault(part_of(path), set()).update(imported_parts(path))
    while graph:
        leaves = {
            name for name, needs in graph.items() if not needs & set(graph)
        }
        assert leaves, f"an import circle among {sorted(graph)}"
        graph = {k: v for k, v in graph.items() if k not in leaves}


@pytest.mark.parametrize(
    "file, source, message",
    [
        (
            "simplex.py",
            "from keras_wp.layers import RobustHead",
            "simplex imports layers, which is above it",
        ),
        (
            "attacks/pgd.py",
            "from keras_wp import models",
            "attacks imports models",
        ),
        (
            "attacks/pgd.py",
            "from ..layers import Head",
            "attacks imports layers",
        ),
        ("losses.py", "import keras_wp", "losses imports the package itself"),
        (
            "losses.py",
            "from keras_wp import helpers",
            "losses imports helpers, which stands on no floor",
        ),
        ("helpers.py", "", "helpers stands on no floor: give it one in FLOORS"),
    ],
)
def test_the_rule_catches_a_breach(
    tmp_path, monkeypatch, file, source, message
):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "keras_wp")
    path = tmp_path / "keras_wp" / file
    path.parent.mkdir(parents=True)
    path.write_text(source)
    assert violations(path) == [message]


@pytest.mark.parametrize(
    "source", ["import jax", "def f():\n    from tensorflow import nn"]
)
def test_the_rule_catches_a_named_backend(tmp_path, monkeypatch, source):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path / "keras_wp")
    path = tmp_path / "keras_wp" / "norms.py"
    path.parent.mkdir()
    path.write_text(source)
    assert len(named_backends(path)) == 1
