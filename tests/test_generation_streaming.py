"""Streaming: the same tokens, as they come; whole characters only."""

from __future__ import annotations

import io

import numpy as np
import pytest

import minilm
from minilm.generation import TextStreamer
from minilm.models import GPT2Config, GPT2LMHeadModel


class Bytes:
    """A tokenizer of single bytes; 256 is a special token."""

    def decode(self, ids, skip_special_tokens=False):
        parts = [b"<end>" if i == 256 and not skip_special_tokens else bytes([i] if i < 256 else []) for i in ids]
        return b"".join(parts).decode("utf-8", errors="replace")


@pytest.fixture(scope="module")
def model():
    minilm.random.seed(0)
    return GPT2LMHeadModel(GPT2Config.tiny(vocab_size=256, initializer_range=0.3)).eval()


def pieces(text, **options):
    """What a streamer prints, one string for each token of the text."""

    class Recorder(TextStreamer):
        def on_text(self, text):
            printed.append(text)

    printed: list[str] = []
    streamer = Recorder(Bytes(), **options)
    streamer.put(np.array([[ord(">")]]))
    for byte in text.encode() if isinstance(text, str) else text:
        streamer.put(np.array([byte]))
    streamer.end()
    return printed


def test_characters_come_whole():
    assert pieces("aé€😀b") == [">", "a", "", "é", "", "", "€", "", "", "", "😀", "b", "\n"]
    assert "".join(pieces("naïve\n日本語\n\nend")) == ">naïve\n日本語\n\nend\n"


def test_broken_characters_come_out_too():
    assert "".join(pieces(b"a\xe2\x82b")) == ">a\N{REPLACEMENT CHARACTER}b\n"
    assert "".join(pieces(b"a\xe2\x82")) == ">a\N{REPLACEMENT CHARACTER}\n"  # still waiting at the end


def test_options():
    assert "".join(pieces("ab", skip_prompt=True)) == "ab\n"
    assert "".join(pieces([97, 256, 98], skip_special_tokens=True)) == ">ab\n"
    assert "".join(pieces([97, 256, 98])) == ">a<end>b\n"


def test_it_prints_and_can_be_used_again(capsys):
    out = io.StringIO()
    streamer = TextStreamer(Bytes(), file=out)
    for _ in range(2):
        streamer.put(np.array([[104, 105]]))
        streamer.put(np.array([33]))
        streamer.end()
    assert out.getvalue() == "hi!\nhi!\n" and capsys.readouterr().out == ""
    TextStreamer(Bytes()).put(np.array([[104]]))
    assert capsys.readouterr().out == "h"


def test_one_text_only():
    streamer = TextStreamer(Bytes())
    with pytest.raises(ValueError, match="one text"):
        streamer.put(np.zeros((2, 3), dtype=int))


def test_what_is_streamed_is_what_is_returned(model):
    prompt = np.array([[72, 101, 108]])
    plain = model.generate(prompt, max_new_tokens=20)
    calls = []
    got = model.generate(prompt, max_new_tokens=20, streamer=calls.append)
    assert np.array_equal(got, plain) and np.array_equal(np.stack(calls, axis=1), plain[:, 3:])
    out = io.StringIO()
    model.generate(prompt, max_new_tokens=20, streamer=TextStreamer(Bytes(), file=out))
    assert out.getvalue() == Bytes().decode(plain[0].tolist()) + "\n"


def test_a_callback_gets_every_row(model):
    calls = []
    got = model.generate(
        [[1, 2], [3, 4]], max_new_tokens=5, do_sample=True, num_return_sequences=3, seed=0, streamer=calls.append
    )
    assert np.array_equal(np.stack(calls, axis=1), got[:, 2:])


def test_an_object_with_put_and_end(model):
    class Log:
        def __init__(self):
            self.put_calls, self.ended = [], False

        def put(self, ids):
            self.put_calls.append(ids.shape)

        def end(self):
            self.ended = True

    log = Log()
    model.generate([[1, 2]], max_new_tokens=3, streamer=log)
    assert log.put_calls == [(1, 2), (1,), (1,), (1,)] and log.ended
