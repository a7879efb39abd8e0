"""Programs behind names: shims of version managers are passed, and a missing program is one line."""

import os

import pytest

from clients.capture.record import _remake, _shown
from clients.capture.resolve import CaptureError, resolve_program


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def test_a_shim_is_passed_for_the_program_behind_it(tmp_path, monkeypatch):
    shim = script(tmp_path / ".rbenv" / "shims" / "tool", "#!/bin/sh\nexec real-tool\n")
    real = script(tmp_path / "bin" / "tool", "")
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{real.parent}")
    assert resolve_program("tool") == str(real)


def test_a_shims_manager_is_asked(tmp_path, monkeypatch):
    shim = script(tmp_path / ".rbenv" / "shims" / "tool", "#!/bin/sh\n")
    real = script(tmp_path / ".rbenv" / "versions" / "tool", "")
    manager = script(tmp_path / "bin" / "rbenv", f'#!/bin/sh\n[ "$1 $2" = "which tool" ] && echo {real}\n')
    monkeypatch.setenv("PATH", f"{shim.parent}{os.pathsep}{manager.parent}{os.pathsep}/usr/bin:/bin")
    assert resolve_program("tool") == str(real)
    assert resolve_program(str(shim)) == str(real)


@pytest.mark.parametrize("name", ["no-such-program", "/no/such/program", "/"])
def test_a_missing_program_is_one_line(name):
    with pytest.raises(CaptureError, match=rf"^{name}: .*(no such command|not an executable)"):
        resolve_program(name)


def test_commands_are_told_without_directories_or_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "someone"))
    (tmp_path / "in.txt").touch()
    command = ["/usr/bin/sort", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out"), f"-T{tmp_path}/someone/t"]
    command += ["s/a/b/", "/x/ { print }", "/"]
    shown = _shown(command)
    assert shown == ["sort", "in.txt", "-o", "out", "-T~/t", "s/a/b/", "/x/ { print }", "/"]
    assert _remake(shown[:2], tmp_path / "s.vmtrace", 10) == "vmglue capture -o s.vmtrace --max-refs 10 -- sort in.txt"
