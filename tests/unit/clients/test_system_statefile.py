import json
import os

import pytest

from clients.exits import BadInput
from clients.statefile import read_state, remove_state, runtime_directory, write_state


@pytest.fixture(autouse=True)
def _own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))


def test_state_is_found_and_withdrawn():
    written = write_state("unix:/somewhere", "default")
    assert read_state() == written
    assert written.pid == os.getpid()
    remove_state()
    assert read_state() is None


def test_directory_is_private():
    assert runtime_directory().stat().st_mode & 0o777 == 0o700


def test_state_of_a_process_that_is_gone_is_removed():
    path = runtime_directory() / "system.json"
    path.write_text(json.dumps({"pid": 2**22 + 1, "started": 1.0, "address": "x", "machine": "m"}))
    assert read_state() is None
    assert not path.exists()


def test_a_pid_that_was_used_again_is_not_taken_for_the_system():
    write_state("unix:/somewhere", "default")
    path = runtime_directory() / "system.json"
    state = json.loads(path.read_text())
    path.write_text(json.dumps({**state, "started": state["started"] - 100}))
    assert read_state() is None


@pytest.mark.parametrize("content", ["", "[1]", "{}", '{"pid": 1}'])
def test_damaged_state_counts_as_none(content):
    (runtime_directory() / "system.json").write_text(content)
    assert read_state() is None


def test_directory_open_to_others_is_refused():
    runtime_directory().chmod(0o755)
    with pytest.raises(BadInput, match="0700"):
        runtime_directory()


def test_directory_that_is_a_link_is_refused(tmp_path):
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    (tmp_path / "vmglue").symlink_to(target)
    with pytest.raises(BadInput, match="0700"):
        runtime_directory()
