"""TensorBoard event files, written by PyTorch's writer."""

from pathlib import Path

import numpy as np
import pytest

from fettle.api import open_run
from fettle.errors import RunError
from fettle.runs import RunReader
from fettle.runs.tensorboard_event import scalars
from fettle.runs.tfrecord import masked_crc32c

tensorboard = pytest.importorskip("torch.utils.tensorboard", reason="needs torch and tensorboard")


def write(folder: Path, steps: range, *, loss: float = 2.0, suffix: str = "") -> Path:
    """Event file of a run: a train loss at every step, an eval loss at every tenth."""
    before = set(folder.glob("*"))
    with tensorboard.SummaryWriter(str(folder), filename_suffix=suffix) as writer:
        writer.add_text("config", "lr 1e-4")
        for step in steps:
            writer.add_scalar("train/loss", loss / step, step, walltime=1000.0 + step)
            writer.add_scalar("train/learning_rate", 1e-4, step)
            if step % 10 == 0:
                writer.add_scalar("eval/loss", 1.0 + step / 100, step)
    return next(iter(set(folder.glob("*")) - before))


def test_scalars_are_a_run(tmp_path: Path) -> None:
    path = write(tmp_path, range(1, 31))
    for run in (open_run(path), open_run(tmp_path)):
        assert (run.kind, run.state(), run.problems) == ("tensorboard", "unknown", [])
        columns = run.columns("train")
        assert columns["step"].tolist() == list(range(1, 31))
        np.testing.assert_allclose(columns["loss"], 2.0 / np.arange(1, 31), rtol=1e-6)
        assert columns["learning_rate"][0] == pytest.approx(1e-4)
        assert [(e.step, e.cross_entropy) for e in run.evals()] == [
            (10, pytest.approx(1.1)),
            (20, pytest.approx(1.2)),
            (30, pytest.approx(1.3)),
        ]
        assert run.verdict().evidence["evals"] == 3


def test_the_folder_above_is_enough_where_it_holds_one_run(tmp_path: Path) -> None:
    write(tmp_path / "runs" / "Nov20_host", range(1, 5))
    assert len(RunReader(tmp_path).columns("train")["loss"]) == 4
    write(tmp_path / "runs" / "Nov21_host", range(1, 5))
    with pytest.raises(RunError, match=r"holds 2 TensorBoard runs\. Name one of them: runs/Nov20_host"):
        RunReader(tmp_path)


def test_a_growing_file_is_followed(tmp_path: Path) -> None:
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 1)
        writer.flush()
        reader = RunReader(tmp_path)
        assert reader.columns("train")["loss"].tolist() == [1.0]
        writer.add_scalar("loss", 0.5, 2)
        writer.add_scalar("lr", 0.25, 1)  # Of a step that was read before.
        writer.flush()
        reader.refresh()
        columns = reader.columns("train")
        assert columns["loss"].tolist() == [1.0, 0.5]
        assert columns["learning_rate"][0] == 0.25


def test_an_eval_that_is_told_late_leaves_the_later_steps(tmp_path: Path) -> None:
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        for step in (1, 2, 3):
            writer.add_scalar("loss", 1.0 / step, step)
        writer.flush()
        reader = RunReader(tmp_path)
        writer.add_scalar("eval/loss", 2.0, 1)
        writer.flush()
        reader.refresh()
        assert reader.columns("train")["step"].tolist() == [1, 2, 3]
        assert [e.step for e in reader.evals()] == [1]


def test_a_later_file_that_begins_earlier_supersedes_what_was_behind_that_step(tmp_path: Path) -> None:
    first = write(tmp_path, range(1, 31), suffix=".a")
    second = write(tmp_path, range(16, 22), loss=20.0, suffix=".b")
    second.rename(first.with_name(first.name + ".resumed"))  # The same second: names must sort.
    columns = RunReader(tmp_path).columns("train")
    assert columns["step"].tolist() == list(range(1, 22))
    np.testing.assert_allclose(columns["loss"][14:16], [2 / 15, 20 / 16], rtol=1e-6)
    # The second file holds one eval, at step 20: the one at step 10 stands, that at 30 does not.
    assert [e.step for e in RunReader(tmp_path).evals()] == [10, 20]


def test_a_file_that_was_cut_off_gives_what_is_whole_and_goes_on_when_it_is(tmp_path: Path) -> None:
    path = write(tmp_path, range(1, 31))
    content = path.read_bytes()
    path.write_bytes(content[:-7])
    reader = RunReader(path)
    assert [e.step for e in reader.evals()] == [10, 20]
    assert len(reader.problems) == 1
    assert "last record is not whole" in reader.problems[0]
    with path.open("ab") as stream:
        stream.write(content[-7:])
    reader.refresh()
    assert [e.step for e in reader.evals()] == [10, 20, 30]
    assert reader.problems == []


def test_a_damaged_record_is_left_out_and_a_damaged_length_ends_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, range(1, 31))
    content = bytearray(path.read_bytes())
    at = content.index(b"train/loss", len(content) // 2)
    content[at] ^= 1
    path.write_bytes(content)
    reader = RunReader(path)
    assert len(reader.columns("train")["loss"]) == 29
    assert reader.problems == [f"{path.name}: 1 record is damaged and left out"]
    start = content.rindex(b"eval/loss", 0, -20) - 60
    content[start : start + 60] = bytes(60)
    path.write_bytes(content)
    reader = RunReader(path)
    assert 0 < len(reader.columns("train")["loss"]) < 30
    assert any("damaged at byte" in p and "what follows is left out" in p for p in reader.problems)


def test_a_file_without_scalars_and_an_empty_one_say_so(tmp_path: Path) -> None:
    (tmp_path / "events.out.tfevents.1.host").touch()
    assert RunReader(tmp_path).problems == [f"{tmp_path.name} holds no scalars"]
    with tensorboard.SummaryWriter(str(tmp_path / "other")) as writer:
        writer.add_scalar("reward", 1.0, 1)
        writer.add_scalar("accuracy", 1.0, 1)
    reader = RunReader(tmp_path / "other")
    assert reader.columns("train") == {}
    assert reader.problems == ["no scalar has a known name. There are: accuracy, reward"]


def test_other_names_are_mapped_in_yaml(tmp_path: Path) -> None:
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("reward", 3.0, 7)
    (tmp_path / "fettle-columns.yaml").write_text("train: {loss: reward}\n")
    assert RunReader(tmp_path).columns("train")["loss"].tolist() == [3.0]


def test_pictures_and_histograms_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fettle.runs.tfrecord.LONGEST_RECORD_BYTES", 500)
    with tensorboard.SummaryWriter(str(tmp_path)) as writer:
        writer.add_scalar("loss", 1.0, 1)
        writer.add_histogram("weights", np.linspace(0, 1, 1000), 1)
        writer.add_scalar("loss", float("nan"), 2)
    reader = RunReader(tmp_path)
    assert reader.columns("train")["step"].tolist() == [1, 2]
    assert reader.records("train")[1]["loss_nonfinite"] == "nan"


@pytest.mark.parametrize("number", [np.float32(1.5), np.float64(-2.25), np.int64(-3), np.int32(7)])
@pytest.mark.parametrize("raw", [True, False])
def test_scalars_as_tensorflow_2_writes_them(number: np.generic, raw: bool) -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.compat.proto.tensor_pb2 import TensorProto
    from tensorboard.util.tensor_util import make_tensor_proto

    tensor = make_tensor_proto(number)
    if raw:
        tensor = TensorProto(dtype=tensor.dtype, tensor_content=number.tobytes())
    event = Event(wall_time=5.0, step=-1, summary=Summary(value=[Summary.Value(tag="loss", tensor=tensor)]))
    assert scalars(event.SerializeToString()) == [(-1, "loss", float(number), 5.0)]


def test_tensors_of_several_numbers_and_texts_are_no_scalars() -> None:
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.util.tensor_util import make_tensor_proto

    values = [make_tensor_proto(np.array(v)) for v in ([1.0, 2.0], [1, 2], ["text"], [])]
    summary = Summary(value=[Summary.Value(tag="x", tensor=tensor) for tensor in values])
    assert scalars(Event(step=1, summary=summary).SerializeToString()) == []


@pytest.mark.parametrize("data", [b"\x0b", b"\xff" * 20, b"\x2a\x50abc", b"\x0a"])
def test_bytes_that_are_no_event_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"wire type|no end|longer than"):
        scalars(data)


def test_the_checksum_is_that_of_rfc_3720() -> None:
    # Appendix B.4: 32 bytes of zeros, of ones, and counting up.
    for data, crc in ((bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E)):
        masked = (((crc >> 15) | (crc << 17 & 0xFFFFFFFF)) + 0xA282EAD8) & 0xFFFFFFFF
        assert masked_crc32c(data) == masked
