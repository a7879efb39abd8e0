"""No module of ours can run what stands in a message or a file, or lies in the folder of whoever calls."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import clients
import hardware_sim
import services

RUNNING = {"eval", "exec", "compile", "__import__"}
READING_OBJECTS = {"pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml"}
SOURCES = [
    path
    for package in (services, clients, hardware_sim)
    for path in Path(package.__path__[0]).rglob("*.py")
    if "data/programs" not in path.as_posix()  # programs that were recorded: never run by ours
]


def dangers(tree):
    """Calls and imports that run what they are given."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in RUNNING:
            yield node.func.id
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] in READING_OBJECTS)
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in READING_OBJECTS:
            yield node.module
        if (
            isinstance(node, ast.keyword)
            and node.arg in ("allow_pickle", "shell")
            and ast.unparse(node.value) != "False"
        ):
            yield node.arg


@pytest.mark.parametrize(
    "text",
    ["eval('1')", "import pickle", "from marshal import loads", "np.load(f, allow_pickle=True)", "run(c, shell=x)"],
)
def test_what_is_looked_for_is_found(text):
    assert list(dangers(ast.parse(text)))


def test_nothing_of_it_is_in_our_modules():
    assert len(SOURCES) > 150
    assert {path.name: found for path in SOURCES if (found := list(dangers(ast.parse(path.read_text()))))} == {}


def interpreters(tree):
    """The option with which each Python that is started finds its modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.List) and node.elts and ast.unparse(node.elts[0]) == "sys.executable":
            yield ast.literal_eval(node.elts[1])


def test_every_python_that_is_started_leaves_the_working_folder_alone():
    options = [option for path in SOURCES for option in interpreters(ast.parse(path.read_text()))]
    assert len(options) >= 6
    assert set(options) == {"-I", "-P"}
