"""Runs a workload on a running vmglue without its code or .proto files: `python client.py ADDRESS WORKLOAD TRACE...`.

Needs grpcio and grpcio-reflection alone. Over TLS if VMGLUE_TLS_CA, VMGLUE_TLS_CERT and VMGLUE_TLS_KEY name files.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

SERVICE, PIECE = "vmglue.machine.v1.MachineService", 1 << 20


def main(address: str, workload: str, *traces: str) -> None:
    """Load, run and follow."""
    files = [os.environ[name] for name in ("VMGLUE_TLS_CA", "VMGLUE_TLS_KEY", "VMGLUE_TLS_CERT") if name in os.environ]
    pem = [Path(file).read_bytes() for file in files]
    channel = (
        grpc.secure_channel(address, grpc.ssl_channel_credentials(*pem)) if pem else grpc.insecure_channel(address)
    )
    rpcs = DescriptorPool(ProtoReflectionDescriptorDatabase(channel)).FindServiceByName(SERVICE).methods_by_name
    load, run = (GetMessageClass(rpcs[name].input_type) for name in ("Load", "Run"))
    told: Any = GetMessageClass(rpcs["Run"].output_type)
    head = {"request_id": os.urandom(8).hex(), "name": Path(workload).name, "toml": Path(workload).read_text("utf-8")}
    contents = {Path(trace).name: Path(trace).read_bytes() for trace in traces}
    chunks = [
        load(chunk={"file": name, "data": content[at : at + PIECE]})
        for name, content in contents.items()
        for at in range(0, len(content), PIECE)
    ]
    channel.stream_unary(f"/{SERVICE}/Load", load.SerializeToString)(iter([load(head=head), *chunks]))
    for news in channel.unary_stream(f"/{SERVICE}/Run", run.SerializeToString, told.FromString)(run()):
        if news.HasField("progress"):
            print(f"{news.progress.now_us / 1e6:8.2f} s, {news.progress.free_pages} pages free", flush=True)
        elif news.HasField("failure"):
            sys.exit(news.failure.text)
        else:
            print("event hash", json.loads(news.report_json)["event_hash"])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python client.py ADDRESS WORKLOAD.toml TRACE.vmtrace...")
    try:
        main(*sys.argv[1:])
    except (grpc.RpcError, OSError) as error:
        sys.exit(f"client.py: {error.details() if isinstance(error, grpc.Call) else error}")
