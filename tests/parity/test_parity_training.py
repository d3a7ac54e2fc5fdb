"""The training loop in nanoGPT's setting against the same steps in PyTorch: weights, batches and schedule
shared."""

import numpy as np
import pytest

import minilm
from minilm.data import RandomWindows
from minilm.models import GPT2Config, GPT2LMHeadModel
from minilm.training import PRESETS, TrainingLoop, next_token_loss

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

STEPS = 40
VOCAB = 65


def test_the_char_preset_follows_pytorch(tmp_path):
    """Forty steps in float64: every loss within 1e-10 and every weight within 1e-9 of PyTorch's AdamW,
    clipped."""
    preset = PRESETS["char"]
    config = preset.training.replace(block_size=16, batch_size=4, warmup_steps=10, max_grad_norm=0.5)
    minilm.seed(0)
    shape = {**preset.model, "n_layer": 2, "n_head": 2, "n_embd": 16, "bias": True}
    special = {"bos_token_id": None, "eos_token_id": None}
    ours = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=16, **special, **shape)).double()
    ours.save_pretrained(tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float64).train()

    tokens = np.random.default_rng(0).integers(0, VOCAB, 2000)
    loop = TrainingLoop(
        ours.train(),
        RandomWindows(tokens, 4, 16, seed=0),
        config,
        loss_function=next_token_loss,
        progress=False,
    )
    batches = RandomWindows(tokens, 4, 16, seed=0)
    parameters = list(theirs.parameters())
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ],
        betas=config.betas,
        eps=config.epsilon,
    )
    for step in range(STEPS):
        our_loss, our_norm, _ = loop._update()
        loop.step += 1
        batch = {name: torch.from_numpy(value.copy()) for name, value in next(batches).items()}
        logits = theirs(batch["input_ids"]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, VOCAB), batch["targets"].reshape(-1))
        for group in optimizer.param_groups:
            group["lr"] = config.learning_rate_at(step)
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()
        assert our_loss == pytest.approx(loss.item(), rel=1e-10), step
        assert our_norm == pytest.approx(norm.item(), rel=1e-8), step
    expected = dict(theirs.named_parameters())
    for name, parameter in ours.named_parameters():
        np.testing.assert_allclose(
            parameter.numpy(), expected[name].detach().numpy(), rtol=1e-9, atol=1e-9, err_msg=name
        )
