"""What our processes log: names, addresses and ids, and nothing that a caller or a program holds."""

from __future__ import annotations

import ast
import traceback
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from toy_kstack import ToyKstack
from toy_wirings import wired

import clients
import hardware_sim
import services
from services.ports.kstack import StackSample, StackUse
from services.runtime.errors import ServiceFault

LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "bind"}
FIELDS = {
    "address": "where machine.proto is served",
    "boot_id": "of the process",
    "error": "of Redis, or what keeps a process from its start",
    "error_id": "of an internal error",
    "exc_info": "the stack of an internal error",
    "function": "C function of a panic",
    "line": "C line of a panic",
    "ports": "numbers of the ports that were taken",
    "request_id": "of the call",
    "rpc": "its name",
    "service": "who publishes",
    "status": "exit status",
    "text": "of a panic",
    "why": "which service was lost, or does not serve",
    "**self._config.redacted()": "the settings without credentials",
}
"""Every field of every entry, and what it holds."""


def logged(tree):
    """Arguments of the calls that log: fields, and texts that are not fixed."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        callee, arguments = node.func, node.args
        if isinstance(callee, ast.Attribute) and callee.attr == "run" and arguments:  # in a context
            callee, arguments = arguments[0], arguments[1:]
        if isinstance(callee, ast.Attribute) and callee.attr in LEVELS and "log" in ast.unparse(callee.value):
            yield from (ast.unparse(text) for text in arguments if not isinstance(text, ast.Constant))
            yield from (word.arg or f"**{ast.unparse(word.value)}" for word in node.keywords)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("log.info('read', data=data)", ["data"]),
        ("self._log.error(f'read {data}')", ["f'read {data}'"]),
        ("structlog.get_logger().warning('read', **about)", ["**about"]),
        ("context.run(structlog.get_logger().warning, 'read', page=1)", ["page"]),
    ],
)
def test_what_is_looked_for_is_found(text, found):
    assert list(logged(ast.parse(text))) == found


def test_every_field_of_every_entry_is_known():
    sources = [
        path for package in (services, clients, hardware_sim) for path in Path(package.__path__[0]).rglob("*.py")
    ]
    assert {field for path in sources for field in logged(ast.parse(path.read_text()))} == set(FIELDS)


@pytest.mark.parametrize("answer", [StackUse([b"contents of a page"]), StackUse("contents of a page")])
def test_an_answer_that_does_not_fit_is_not_told(answer, monkeypatch, tmp_path):
    monkeypatch.setattr(ToyKstack, "intr_prof_stack_use", lambda *_: answer)
    with wired("grpc", tmp_path) as toy, capture_logs() as entries:
        toy.boot()
        with pytest.raises(ServiceFault):
            toy.port.intr_prof_stack_use([StackSample()])
    (entry,) = [entry for entry in entries if entry["event"] == "internal error"]
    told = "".join(traceback.format_exception(entry["exc_info"]))
    assert "intr_prof_stack_use answered what the contract cannot hold" in told
    assert "contents of a page" not in told
