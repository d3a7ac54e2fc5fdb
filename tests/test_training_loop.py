"""The loop: it learns, it resumes to the bit, it stops cleanly, and it says what went wrong."""

import json
import signal
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import minilm
from minilm import nn
from minilm.data import RandomWindows, SequentialWindows
from minilm.nn import functional as F
from minilm.training import (
    CheckpointError,
    TrainingConfig,
    TrainingDiverged,
    TrainingLoop,
    list_checkpoints,
    parameter_groups,
    read_log,
)

VOCAB = 13


@dataclass
class Output:
    loss: Any


class TinyModel(nn.Module):
    """Predicts the next token from the present one, with dropout, so that random numbers matter."""

    def __init__(self, width=8, vocab=VOCAB):
        super().__init__()
        self.embedding = nn.Embedding(vocab, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(width, vocab)

    def forward(self, input_ids, targets):
        logits = self.head(self.dropout(self.norm(self.embedding(input_ids))))
        return Output(F.cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)))


def text(size=400):
    """Tokens with something to learn: each is the one before plus 1 or 2."""
    steps = np.random.default_rng(0).integers(1, 3, size)
    return (np.cumsum(steps) % VOCAB).astype(np.uint16)


def make(folder=None, order=RandomWindows, model=None, seed=0, **settings):
    config = TrainingConfig(
        **{
            "steps": 20, "batch_size": 4, "block_size": 8, "warmup_steps": 3, "learning_rate": 0.05,
            "min_learning_rate": 0.005, "eval_interval": 5, "checkpoint_interval": 10, "log_interval": 3,
            **settings,
        }
    )  # fmt: skip
    minilm.seed(seed)
    validation = RandomWindows(text(), config.batch_size, config.block_size, seed=99)
    return TrainingLoop(
        model or TinyModel(),
        order(text(), config.batch_size, config.block_size, seed=config.seed),
        config,
        validation=[next(validation) for _ in range(2)],
        folder=folder,
        progress=False,
    )


def weights(loop):
    return {name: value.numpy().copy() for name, value in loop.model.state_dict().items()}


def assert_same_bits(first, second):
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].tobytes() == second[name].tobytes(), name


def without_times(records):
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def test_it_learns():
    loop = make(steps=150, learning_rate=0.03)
    before = loop.evaluate()
    result = loop.run()
    assert result.step == 150 and not result.interrupted and result.checkpoint is None
    assert before == pytest.approx(np.log(VOCAB), rel=0.25)
    assert result.best_loss < 1.2  # ln 2 = 0.69 is what is left when everything is learnt
    assert result.records[0] == {"step": 0, "validation_loss": before}


@pytest.mark.parametrize("order", [RandomWindows, SequentialWindows])
@pytest.mark.parametrize("parts", [1, 3])
def test_resume_continues_to_the_bit(tmp_path, order, parts):
    """100 steps are 50, another process's worth of disturbance, and 50 more: weights, optimiser, log and
    order."""
    settings = {"steps": 100, "checkpoint_interval": 50, "gradient_accumulation_steps": parts, "order": order}
    whole = make(tmp_path / "whole", **settings)
    whole.run()

    first = make(tmp_path / "parts", **settings)
    first.on_record = lambda record: record["step"] >= 50 and signal.raise_signal(signal.SIGINT)
    assert first.run().interrupted
    assert first.step == 50

    minilm.seed(12345)
    np.random.seed(1)
    second = make(
        tmp_path / "parts", seed=777, **settings
    )  # other weights and random state, to be overwritten
    next(second.batches)
    second.resume()
    assert second.step == first.step
    result = second.run()

    assert result.step == 100
    assert_same_bits(weights(whole), weights(second))
    for index, state in whole.optimizer.state_dict()["state"].items():
        other = second.optimizer.state_dict()["state"][index]
        for name, value in state.items():
            assert np.array_equal(value, other[name]), name
    assert whole.batches.state_dict() == second.batches.state_dict()
    assert (
        minilm.random.get_state()
        == json.loads((tmp_path / "whole/checkpoints/step-000100/trainer_state.json").read_text())["random"]
    )
    assert without_times(result.records) == without_times(whole.log.records)
    assert read_log(tmp_path / "parts/log.jsonl") == result.records


def test_the_same_seed_gives_the_same_bits():
    first, second, other = make(), make(), make(seed=1)
    for loop in (first, second, other):
        minilm.seed(0 if loop is not other else 1)
        loop.run()
    assert_same_bits(weights(first), weights(second))
    assert any(not np.array_equal(weights(first)[name], weights(other)[name]) for name in weights(first))


def test_evaluating_and_sampling_do_not_disturb_training():
    plain, watched = make(eval_interval=0), make(eval_interval=1, sample_interval=1)
    watched.sample = lambda: str(minilm.random.generator().random())
    for loop in (plain, watched):
        minilm.seed(0)
        loop.run()
    assert_same_bits(weights(plain), weights(watched))
    samples = [record for record in watched.log.records if "sample" in record]
    assert [record["step"] for record in samples] == list(range(1, 21))


def test_accumulated_gradients_are_those_of_the_whole_batch():
    """Two passes over halves of a batch are one step on the whole: the loss is a mean."""
    whole_batch = next(RandomWindows(text(), 8, 8, seed=0))
    halves = [{name: value[rows] for name, value in whole_batch.items()} for rows in (slice(4), slice(4, 8))]

    class Fixed:
        def __init__(self, batches):
            self.batches = iter(batches)

        def __next__(self):
            return next(self.batches)

    gradients = []
    for batches in ([whole_batch], halves):
        loop = make(steps=1, warmup_steps=0, gradient_accumulation_steps=len(batches), max_grad_norm=np.inf)
        loop.model.double()
        loop.model.dropout.p = 0.0
        loop.batches = Fixed(batches)
        loop._update()
        gradients.append({name: p.grad.numpy() for name, p in loop.model.named_parameters()})
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradient, gradients[1][name], rtol=1e-10, atol=1e-14)


def test_clipping_bounds_the_gradient():
    loop = make(max_grad_norm=1e-3)
    _, norm, _ = loop._update()
    total = sum(float((p.grad.numpy() ** 2).sum()) for p in loop.model.parameters()) ** 0.5
    assert norm > 1e-3
    assert total == pytest.approx(1e-3, rel=1e-3)


def test_weight_decay_leaves_vectors_alone():
    model = TinyModel()
    model.head.weight.requires_grad = False
    decayed, spared = parameter_groups(model, 0.1)
    assert {id(p) for p in decayed["params"]} == {id(model.embedding.weight)}
    assert {id(p) for p in spared["params"]} == {
        id(model.norm.weight),
        id(model.norm.bias),
        id(model.head.bias),
    }
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)


def test_what_a_run_leaves(tmp_path):
    result = make(tmp_path / "run").run()
    assert (tmp_path / "run/training.png").read_bytes().startswith(b"\x89PNG")
    records = read_log(tmp_path / "run/log.jsonl")
    assert records == result.records
    assert [record["step"] for record in records if "loss" in record] == [3, 6, 9, 12, 15, 18, 20]
    assert [record["step"] for record in records if "validation_loss" in record] == [0, 5, 10, 15, 20]
    last = [record for record in records if "loss" in record][-1]
    assert last["tokens"] == 20 * 4 * 8
    assert last["learning_rate"] == make().config.learning_rate_at(19)
    kept = [path.name for path in list_checkpoints(tmp_path / "run")]
    assert kept[-1] == "step-000020" and f"step-{result.best_step:06d}" in kept and len(kept) <= 3
    assert result.checkpoint.name == "step-000020"


def test_ctrl_c_finishes_the_step_and_leaves_a_checkpoint(tmp_path):
    loop = make(tmp_path, steps=50, checkpoint_interval=0, log_interval=1)
    before = signal.getsignal(signal.SIGINT)
    loop.on_record = lambda record: record["step"] == 7 and signal.raise_signal(signal.SIGINT)
    result = loop.run()
    assert result.interrupted and result.step == 7
    assert result.checkpoint.name == "step-000007"
    assert signal.getsignal(signal.SIGINT) is before
    again = make(tmp_path, steps=50, checkpoint_interval=0, log_interval=1)
    again.resume()
    assert again.step == 7 and again.run().step == 50


def test_a_second_ctrl_c_stops_at_once(tmp_path):
    loop = make(tmp_path, steps=50, log_interval=1)

    def twice(record):
        if record["step"] == 7:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    loop.on_record = twice
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loop.run()
    assert signal.getsignal(signal.SIGINT) is before


def test_it_runs_in_a_thread():
    loop, errors = make(steps=5), []

    def run():
        try:
            loop.run()
        except Exception as error:  # reported below, in the main thread
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert errors == [] and loop.step == 5


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tmp_path):
    loop = make(tmp_path, checkpoint_interval=5, eval_interval=0)
    healthy = loop.loss_function
    loop.loss_function = lambda model, batch: (
        healthy(model, batch) * (float("nan") if loop.step == 12 else 1.0)
    )
    with pytest.raises(TrainingDiverged, match=r"the loss is nan in step 13 .*step-000010\. Try a lower"):
        loop.run()
    again = make(tmp_path, checkpoint_interval=5, eval_interval=0)
    again.resume()
    assert again.step == 10
    assert all(np.isfinite(value).all() for value in weights(again).values())
    assert again.run().step == 20


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # the infinite gradient is the point
def test_a_gradient_that_is_not_finite_changes_no_weight():
    loop = make()
    healthy = loop.loss_function
    loop.loss_function = lambda model, batch: healthy(model, batch) + (model.head.bias[:1] * 0.0).sqrt().sum()
    before = weights(loop)
    with pytest.raises(
        TrainingDiverged, match=r"norm of the gradient is (nan|inf) in step 1 .*no checkpoint yet"
    ):
        loop.run()
    assert_same_bits(before, weights(loop))


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    make(tmp_path).run()
    with pytest.raises(FileExistsError, match="resume it or choose another"):
        make(tmp_path).run()


def test_resume_refuses_what_does_not_belong(tmp_path):
    make(tmp_path).run()
    with pytest.raises(CheckpointError, match=r"learning_rate 0\.05 \(now 0\.01\)"):
        make(tmp_path, learning_rate=0.01).resume()
    with pytest.raises(CheckpointError, match="does not belong to this run"):
        make(tmp_path, model=TinyModel(width=9)).resume()
    with pytest.raises(CheckpointError, match="resume with the data"):
        make(tmp_path, order=SequentialWindows).resume()
    longer = make(tmp_path, steps=25)
    longer.resume()
    assert longer.run().step == 25
    with pytest.raises(ValueError, match="name the checkpoint"):
        make().resume()
    with pytest.raises(ValueError, match="keeps no files"):
        make().save()


def test_a_damaged_newest_checkpoint_names_the_good_one(tmp_path):
    make(tmp_path, keep_checkpoints=3).run()
    newest, before = list_checkpoints(tmp_path)[-1], list_checkpoints(tmp_path)[-2]
    weights_file = newest / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1])
    loop = make(tmp_path, keep_checkpoints=3)
    with pytest.raises(CheckpointError, match=f"model.safetensors has .* before it is .*{before.name}"):
        loop.resume()
    loop = make(tmp_path, keep_checkpoints=3)
    loop.resume(before)
    assert loop.run().step == 20


@pytest.mark.parametrize("at", [4, 20])
def test_a_sample_that_fails_does_not_lose_the_training(tmp_path, at):
    whole = make(tmp_path / "whole")
    whole.run()
    loop = make(tmp_path / "run", sample_interval=at, checkpoint_interval=0, eval_interval=0)

    def fail():
        raise ValueError("the sample failed")

    loop.sample = fail
    with pytest.raises(ValueError, match="the sample failed"):
        loop.run()
    assert [path.name for path in list_checkpoints(tmp_path / "run")] == [f"step-{at:06d}"]
    again = make(tmp_path / "run")
    again.resume()
    assert again.run().step == 20
    assert_same_bits(weights(whole), weights(again))


def test_resume_finds_a_checkpoint_that_was_being_replaced(tmp_path):
    make(tmp_path).run()
    newest = list_checkpoints(tmp_path)[-1]
    newest.rename(newest.with_name(f".{newest.name}.replaced"))
    loop = make(tmp_path)
    loop.resume()
    assert loop.step == 20


def test_evaluating_leaves_every_module_in_its_mode():
    loop = make()
    loop.model.train()
    loop.model.dropout.eval()  # a part that is frozen on purpose
    before = [module.training for module in loop.model.modules()]
    loop.evaluate()
    assert [module.training for module in loop.model.modules()] == before
    loop.model.eval()
    loop.evaluate()
    assert not any(module.training for module in loop.model.modules())


def test_nothing_to_evaluate():
    loop = make()
    loop.validation = ()
    with pytest.raises(ValueError, match="no validation batches"):
        loop.evaluate()
    assert loop.run().best_loss is None
