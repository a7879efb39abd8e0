"""Build hook: generates the gRPC code from protos/*.proto, for editable installs, wheels and sdists alike."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProtoHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's class has no runtime parameters
    """Compiles every .proto before files are collected."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        """Run protoc from the root, so that import paths equal proto paths."""
        generate(Path(self.root))


def generate(root: Path) -> None:
    """Write protos/*_pb2.py, *_pb2_grpc.py and their stubs.

    Raises:
        SystemExit: protoc refused a file; it has printed why.
    """
    import grpc_tools
    from grpc_tools import protoc

    protos = sorted(str(path.relative_to(root)) for path in (root / "protos").glob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    plugins = Path(sys.executable).parent
    arguments = ["protoc", f"-I{root}", f"-I{well_known}", f"--python_out={root}", f"--grpc_python_out={root}"]
    for name in ("mypy", "mypy_grpc"):
        plugin = shutil.which(f"protoc-gen-{name}", path=str(plugins)) or shutil.which(f"protoc-gen-{name}")
        if plugin:
            arguments += [f"--plugin=protoc-gen-{name}={plugin}", f"--{name}_out={root}"]
    if protoc.main([*arguments, *protos]) != 0:
        raise SystemExit("protoc failed")


if __name__ == "__main__":
    generate(Path(__file__).parent)
