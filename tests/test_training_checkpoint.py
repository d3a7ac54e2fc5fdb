"""Checkpoints are whole or absent, damage is noticed and named, and arrays survive to the bit."""

import json
import shutil

import numpy as np
import pytest

from minilm.training import CheckpointError, checkpoint, latest_checkpoint, list_checkpoints, read_checkpoint


def write(run, step, text="weights", state=None):
    folder = checkpoint.checkpoint_folder(run, step)

    def files(target):
        (target / "model.safetensors").write_text(text)
        (target / "sub").mkdir()
        (target / "sub" / "tokenizer.json").write_text("{}")

    checkpoint.write_checkpoint(folder, files, state or {"step": step})
    return folder


def test_what_is_written_is_read(tmp_path):
    folder = write(tmp_path, 7, state={"step": 7, "loss": 0.1 + 0.2, "big": 2**127})
    state = read_checkpoint(folder)
    assert (state["step"], state["loss"], state["big"]) == (7, 0.1 + 0.2, 2**127)
    assert set(state["files"]) == {"model.safetensors", "sub/tokenizer.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["step-000007"]


def test_order_pruning_and_the_best(tmp_path):
    for step in (2, 10, 1_000_000, 300):
        write(tmp_path, step)
    assert [path.name for path in list_checkpoints(tmp_path)] == [
        "step-000002", "step-000010", "step-000300", "step-1000000",
    ]  # fmt: skip
    assert latest_checkpoint(tmp_path).name == "step-1000000"
    checkpoint.prune_checkpoints(tmp_path, keep_last=1, best=10)
    assert [path.name for path in list_checkpoints(tmp_path)] == ["step-000010", "step-1000000"]


def test_a_failure_while_writing_leaves_the_old_one(tmp_path):
    folder = write(tmp_path, 5, "old")

    def fail(target):
        (target / "model.safetensors").write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        checkpoint.write_checkpoint(folder, fail, {"step": 5})
    assert (folder / "model.safetensors").read_text() == "old"
    assert list(folder.parent.iterdir()) == [folder]
    read_checkpoint(folder)


def test_a_state_that_json_cannot_hold_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write(tmp_path, 1, state={"loss": float("nan")})
    assert list_checkpoints(tmp_path) == []


def test_the_same_step_is_replaced(tmp_path):
    write(tmp_path, 5, "old")
    folder = write(tmp_path, 5, "new")
    assert (folder / "model.safetensors").read_text() == "new"
    assert list(folder.parent.iterdir()) == [folder]


def test_what_a_killed_process_left_is_cleared_and_never_listed(tmp_path):
    stale = tmp_path / "checkpoints" / ".step-000004.partial"
    stale.mkdir(parents=True)
    (stale / "model.safetensors").write_text("half")
    assert list_checkpoints(tmp_path) == []
    write(tmp_path, 5)
    assert not stale.exists()


@pytest.mark.parametrize("partial", [False, True])
def test_a_crash_between_the_two_renames_loses_no_checkpoint(tmp_path, partial):
    folder = write(tmp_path, 5, "old")
    folder.rename(folder.with_name(".step-000005.replaced"))
    if partial:  # what would have replaced it
        folder.with_name(".step-000005.partial").mkdir()
    assert list_checkpoints(tmp_path) == []
    newer = write(tmp_path, 6)
    assert sorted(folder.parent.iterdir()) == [folder, newer]
    assert (folder / "model.safetensors").read_text() == "old"
    read_checkpoint(folder)


def test_a_replaced_checkpoint_stays_replaced(tmp_path):
    folder = write(tmp_path, 5, "new")
    shutil.copytree(folder, folder.with_name(".step-000005.replaced"))
    (folder.with_name(".step-000005.replaced") / "model.safetensors").write_text("old")
    checkpoint.restore_replaced(tmp_path)
    assert (folder / "model.safetensors").read_text() == "new"
    newer = write(tmp_path, 6)
    assert sorted(folder.parent.iterdir()) == [folder, newer]


def test_everything_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(checkpoint, "_flush", lambda path: flushed.append(path.name))
    folder = write(tmp_path, 3)
    assert set(flushed[:-2]) == {"model.safetensors", "sub", "tokenizer.json", "trainer_state.json"}
    assert flushed[-2:] == [".step-000003.partial", folder.parent.name]


def truncate(folder):
    (folder / "model.safetensors").write_text("weigh")


def flip(folder):
    (folder / "model.safetensors").write_text("weighty")


def remove(folder):
    (folder / "sub" / "tokenizer.json").unlink()


def break_state(folder):
    path = folder / "trainer_state.json"
    path.write_text(path.read_text()[:-20])


def foreign(folder):
    (folder / "trainer_state.json").write_text('{"global_step": 3}')


def future(folder):
    path = folder / "trainer_state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))


def no_state(folder):
    (folder / "trainer_state.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (truncate, r"model\.safetensors has 5 bytes, expected 7"),
        (flip, r"model\.safetensors does not match its checksum"),
        (remove, r"sub/tokenizer\.json is missing"),
        (break_state, "is damaged .*not JSON"),
        (foreign, "was written by another program"),
        (future, "format 99"),
        (no_state, "is no training checkpoint"),
    ],
)
def test_damage_is_named_with_the_good_one_before(tmp_path, damage, message):
    good = write(tmp_path, 1)
    worse = write(tmp_path, 2)
    newest = write(tmp_path, 3)
    damage(worse)
    damage(newest)
    with pytest.raises(CheckpointError, match=message) as caught:
        read_checkpoint(newest)
    assert f"the good checkpoint before it is {good}" in str(caught.value)
    damage(good)
    with pytest.raises(CheckpointError, match="no good one is beside it"):
        read_checkpoint(newest)


def test_nothing_there(tmp_path):
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        latest_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="is no folder"):
        read_checkpoint(tmp_path / "missing")


def test_trees_of_arrays_survive_to_the_bit(tmp_path):
    generator = np.random.default_rng(0)
    matrix = generator.standard_normal((3, 4)).astype(np.float32)
    tree = {
        "state": {
            0: {"step": 3, "m": matrix, "view": matrix.T},
            1: {"m": np.zeros((0, 2)), "t": np.array(2.5)},
        },
        "groups": [{"lr": 0.1, "betas": (0.9, 0.99), "params": [0, 1]}],
        "scalar": np.float64(1 / 3),
        "nothing": None,
    }
    plain = json.loads(json.dumps(checkpoint.write_arrays(tree, tmp_path / "a.safetensors")))
    back = checkpoint.read_arrays(plain, tmp_path / "a.safetensors")
    assert back["state"][0]["step"] == 3
    assert np.array_equal(back["state"][0]["m"], matrix)
    assert np.array_equal(back["state"][0]["view"], matrix.T)
    assert back["state"][1]["m"].shape == (0, 2)
    assert back["state"][1]["t"].shape == () and back["state"][1]["t"] == 2.5
    assert back["groups"] == [{"lr": 0.1, "betas": [0.9, 0.99], "params": [0, 1]}]
    assert back["scalar"] == 1 / 3 and back["nothing"] is None
