import pytest
from made_trace import make_trace, make_workload

from clients import upload
from clients.upload import UploadError, load_requests, receive
from clients.workload import WorkloadError, load_workload, override
from protos import machine_pb2 as pb
from services.runtime.errors import Reason, Refused
from services.runtime.limits import CHECKPOINT_OF_MEMORY

HEAD = pb.LoadHead(name="w.toml", toml='[[programs]]\ntrace = "made"\n')


def sent(workload):
    head, *rest = load_requests(workload, "id-1")
    return head.head, rest


def test_a_workload_arrives_as_it_was_sent(tmp_path):
    workload = override(
        load_workload(str(make_workload(tmp_path))), ram="8 MiB", seed=9, preempt_seed=5, sysctls=["vm.swap_enabled=0"]
    )
    head, rest = sent(workload)
    there = tmp_path / "there"
    there.mkdir()
    received = receive(there, head, rest)
    assert received.machine == workload.machine
    assert received.name == workload.name
    assert [p.name for p in received.programs] == [p.name for p in workload.programs]
    assert received.programs[0].trace.read_bytes() == workload.programs[0].trace.read_bytes()


def test_swap_devices_arrive_unless_a_size_takes_their_place(tmp_path):
    make_trace(tmp_path / "made.vmtrace")
    path = tmp_path / "w.toml"
    path.write_text('[machine]\nswap = [{ size = "1 MiB", kind = "hdd" }]\n[[programs]]\ntrace = "made.vmtrace"\n')
    for number, workload in enumerate((load_workload(str(path)), override(load_workload(str(path)), swap="2 MiB"))):
        head, rest = sent(workload)
        there = tmp_path / f"there{number}"
        there.mkdir()
        assert receive(there, head, rest).machine.swap == workload.machine.swap
    assert workload.machine.swap_bytes == 2 << 20


def test_traces_in_folders_are_found_by_their_base_name(tmp_path):
    (tmp_path / "traces").mkdir()
    make_trace(tmp_path / "traces" / "made.vmtrace")
    path = tmp_path / "w.toml"
    path.write_text('[[programs]]\ntrace = "traces/made.vmtrace"\n')
    head, rest = sent(load_workload(str(path)))
    there = tmp_path / "there"
    there.mkdir()
    received = receive(there, head, rest)
    assert received.programs[0].trace.is_relative_to(there)


def test_large_traces_are_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "CHUNK_BYTES", 100)
    workload = load_workload(str(make_workload(tmp_path)))
    _, rest = sent(workload)
    assert len(rest) > 3
    assert max(len(request.chunk.data) for request in rest) == 100
    assert b"".join(request.chunk.data for request in rest) == workload.programs[0].trace.read_bytes()


def test_two_traces_with_one_base_name_cannot_be_sent(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        make_trace(tmp_path / folder / "made.vmtrace")
    path = tmp_path / "w.toml"
    path.write_text('[[programs]]\ntrace = "a/made.vmtrace"\n[[programs]]\ntrace = "b/made.vmtrace"\n')
    with pytest.raises(WorkloadError, match="same base name"):
        list(load_requests(load_workload(str(path)), "id"))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "", ".", "..", "x\0y"])
def test_only_base_names_are_written(tmp_path, name):
    with pytest.raises(UploadError, match="base name"):
        receive(tmp_path, HEAD, [pb.LoadRequest(chunk=pb.TraceChunk(file=name, data=b"x"))])
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_trace_outside_of_the_folder_is_not_linked(tmp_path):
    there = tmp_path / "there"
    there.mkdir()
    head = pb.LoadHead(name="w.toml", toml='[[programs]]\ntrace = "../made.vmtrace"\n')
    with pytest.raises(UploadError, match="expected a trace in the workload's folder"):
        receive(there, head, [pb.LoadRequest(chunk=pb.TraceChunk(file="made.vmtrace", data=b"x"))])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["there"]


def test_uploads_are_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(upload, "UPLOAD_BYTES_MAX", 10)
    chunks = [pb.LoadRequest(chunk=pb.TraceChunk(file="x", data=b"12345678"))] * 2
    with pytest.raises(Refused, match="at most 10 in 256 files") as refused:
        receive(tmp_path, HEAD, chunks)
    assert refused.value.reason is Reason.QUOTA


def test_an_upload_into_a_full_folder_is_refused(tmp_path):
    (tmp_path / "0.part").symlink_to("/dev/full")
    with pytest.raises(Refused, match="which is full") as refused:
        receive(tmp_path, HEAD, [pb.LoadRequest(chunk=pb.TraceChunk(file="x", data=b"1"))])
    assert refused.value.reason is Reason.QUOTA


def test_a_received_checkpoint_is_limited_by_the_memory_that_is_left(monkeypatch):
    pieces = [pb.LoadCheckpointRequest(data=b"78901")]
    assert upload.receive_pieces(b"123456", pieces) == b"12345678901"
    monkeypatch.setattr("services.runtime.snapshot.memory_left", lambda: 10 * CHECKPOINT_OF_MEMORY)
    with pytest.raises(Refused, match="a checkpoint of at most 10") as refused:
        upload.receive_pieces(b"123456", pieces)
    assert refused.value.reason is Reason.QUOTA


def test_a_second_head_is_refused(tmp_path):
    with pytest.raises(UploadError, match="only the first"):
        receive(tmp_path, HEAD, [pb.LoadRequest(head=HEAD)])


def test_an_upload_needs_a_workload(tmp_path):
    with pytest.raises(UploadError, match=r"head\.toml"):
        receive(tmp_path, pb.LoadHead(), [])


def test_what_is_wrong_with_a_workload_names_its_file_and_line_but_not_the_folder(tmp_path):
    head = pb.LoadHead(name="w.toml", toml='[machine]\nrom = "4 MiB"\n')
    with pytest.raises(UploadError) as caught:
        receive(tmp_path, head, [])
    assert str(caught.value).startswith("w.toml:2: machine.rom: unknown key; did you mean 'ram'?")


@pytest.mark.parametrize("change", [{"ram_bytes": 5000}, {"swap_bytes": 1}, {"sysctls": {"nonsense": 1}}])
def test_values_beside_the_workload_are_checked(tmp_path, change):
    make_trace(tmp_path / "made.vmtrace")
    head = pb.LoadHead(name="w.toml", toml=HEAD.toml, **change)
    data = (tmp_path / "made.vmtrace").read_bytes()
    there = tmp_path / "there"
    there.mkdir()
    with pytest.raises(UploadError, match="expected"):
        receive(there, head, [pb.LoadRequest(chunk=pb.TraceChunk(file="made.vmtrace", data=data))])
