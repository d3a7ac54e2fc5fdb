"""The command line: every verb does its work, and wrong input gives one sentence and exit code 2."""

import dataclasses
import io
import json
import re
import subprocess
import sys

import pytest

from minilm import kernels
from minilm.cli import VERBS, main
from minilm.ops import elementwise
from minilm.training import loop as training_loop
from minilm.training import read_log

TEXT = (
    30 * "the cat sat on the mat. the dog sat on the log.\n\nthe cat saw the dog and the dog saw the cat.\n"
)
SHAPE = "--batch-size 2 --block-size 16 --layers 1 --heads 2 --width 8"
SMALL = f"--quiet --steps 6 --eval-interval 3 {SHAPE}".split()


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "book.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, book):
    """The folder of a small finished run."""
    folder = tmp_path_factory.mktemp("runs") / "bpe"
    assert main(["pretrain", str(book), "--output", str(folder), "--vocab-size", "270", *SMALL]) == 0
    return folder


def fails(capsys, *arguments):
    """Run a command that is refused; return the sentence on the error stream."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as stopped:  # argparse
        code = stopped.code
    captured = capsys.readouterr()
    assert code == 2, captured
    assert "Traceback" not in captured.err
    last = captured.err.rstrip("\n").splitlines()[-1]
    assert last.startswith("minilm")
    return last


@pytest.mark.parametrize("verb", VERBS)
def test_help_has_examples(verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([verb, "--help"])
    assert stopped.value.code == 0
    out = capsys.readouterr().out
    assert f"examples:\n  minilm {verb}" in out
    assert "--debug" in out
    assert all(len(line) <= 110 for line in out.splitlines())


def test_as_a_module():
    done = subprocess.run(
        [sys.executable, "-m", "minilm", "--help"],
        capture_output=True, text=True, env={"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(verb in done.stdout for verb in VERBS)


def test_help_loads_no_tensors():
    """`--help` has to answer at once."""
    program = (
        "import sys, minilm.cli\n"
        "try: minilm.cli.main(['pretrain', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'matplotlib', 'minilm.tensor') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.stdout.splitlines()[-1] == "[]", done.stdout + done.stderr


def test_pretrain_leaves_a_run(run):
    assert (run / "training.png").is_file()
    assert (run / "log.jsonl").is_file()
    assert (run / "checkpoints" / "step-000006" / "model.safetensors").is_file()


def test_pretrain_in_letters_and_in_a_folder_of_texts(tmp_path, book, capsys):
    folder = tmp_path / "char"
    arguments = ["pretrain", str(book.parent), "--preset", "char", "--output", str(folder), *SMALL]
    assert main(arguments) == 0
    assert "best validation loss" in capsys.readouterr().out
    assert main(["generate", "--model", str(folder), "--prompt", "the ", "--max-new-tokens", "5"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("the ") and len(out.rstrip("\n")) == 9
    assert main(["tokenize", "--model", str(folder), "cat", "--json"]) == 0
    ids = json.loads(capsys.readouterr().out)
    assert len(ids) == 3
    assert main(["tokenize", "--model", str(folder), "--decode", *map(str, ids)]) == 0
    assert capsys.readouterr().out == "cat\n"


def test_pretrain_resumes_to_the_bit(tmp_path, run, book, capsys):
    """Six steps are three, stopped, and three more."""
    folder = tmp_path / "parts"
    arguments = ["pretrain", str(book), "--output", str(folder), "--vocab-size", "270", *SMALL]

    class StopAfterThree(training_loop.StopOnInterrupt):
        @property
        def requested(self):
            return bool(list((folder / "checkpoints").glob("step-000003")))

        @requested.setter
        def requested(self, value):
            pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_loop, "StopOnInterrupt", StopAfterThree)
        assert main(arguments) == 130
    out = capsys.readouterr().out
    assert f"stopped after step 3; to go on: minilm pretrain --resume {folder}" in out
    assert main(["pretrain", "--resume", str(folder), "--quiet"]) == 0
    for name in ("model.safetensors", "optimizer.safetensors"):
        both = [(place / "checkpoints" / "step-000006" / name).read_bytes() for place in (run, folder)]
        assert both[0] == both[1], name


@pytest.mark.filterwarnings("ignore:the texts yield")
def test_pretrain_refusals(tmp_path, run, book, capsys):
    assert "no file or folder" in fails(capsys, "pretrain", tmp_path / "missing.txt")
    assert "expected a whole number of at least 1, got '0'" in fails(capsys, "pretrain", book, "--steps", 0)
    assert "expected a number above 0, got 'nan'" in fails(capsys, "pretrain", book, "--learning-rate", "nan")
    assert "holds a run already; resume it" in fails(capsys, "pretrain", book, "--output", run)
    wrong = fails(capsys, "pretrain", book, "--preset", "huge", "--output", tmp_path / "a")
    assert "no preset 'huge'; choose one of tiny, small, char" in wrong
    heads = fails(capsys, "pretrain", book, "--heads", 3, "--width", 8, "--output", tmp_path / "b", "--quiet")
    assert "n_head" in heads
    short = tmp_path / "short.txt"
    short.write_text("too short\n")
    assert "give more text" in fails(
        capsys, "pretrain", short, "--output", tmp_path / "c", "--preset", "char"
    )
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\x00\x01")
    assert "is not text: byte 0 is zero" in fails(capsys, "pretrain", binary, "--output", tmp_path / "d")
    assert "no encoding 'x'" in fails(capsys, "pretrain", book, "--encoding", "x")
    assert "holds no pretraining run" in fails(capsys, "pretrain", "--resume", tmp_path)
    assert "takes text from the run; leave" in fails(capsys, "pretrain", book, "--resume", run)
    for option, value in (("--validation", 0), ("--encoding", "utf-8"), ("--pattern", "*.txt"), ("--preset", "tiny")):
        assert f"takes {option} from the run" in fails(capsys, "pretrain", "--resume", run, option, value)
    assert "keeps its n_layer" in fails(capsys, "pretrain", "--resume", run, "--layers", 2)
    assert "goes with --resume" in fails(capsys, "pretrain", book, "--checkpoint", run)


@pytest.mark.filterwarnings("ignore:the texts yield")
def test_a_refused_start_can_be_repeated(tmp_path, book, capsys):
    """A wrong setting leaves no half run behind that would have to be deleted first."""
    folder = tmp_path / "run"
    fails(capsys, "pretrain", book, "--output", folder, "--heads", 3, "--width", 8, "--quiet")
    assert main(["pretrain", str(book), "--output", str(folder), "--vocab-size", "270", *SMALL]) == 0


@pytest.mark.parametrize(
    "wrong", [["--preset", "nope"], ["--heads", "3", "--width", "8"], ["--steps", "5", "--warmup-steps", "6"]]
)
def test_wrong_settings_are_told_before_the_text_is_read(tmp_path, capsys, wrong):
    assert main(["pretrain", "--output", str(tmp_path / "run"), *wrong]) == 2
    captured = capsys.readouterr()
    assert len(captured.err.splitlines()) == 1 and "reading" not in captured.err
    assert not (tmp_path / "run").exists()


def test_resuming_a_finished_run_says_so(tmp_path, book, capsys):
    """And a longer run stays longer when it is resumed once more."""
    folder = tmp_path / "run"
    main(["pretrain", str(book), "--output", str(folder), "--vocab-size", "270", *SMALL])
    finished = "already finished at step 6 of 6; pass --steps"
    assert finished in fails(capsys, "pretrain", "--resume", folder)
    assert "already finished at step 6 of 5" in fails(capsys, "pretrain", "--resume", folder, "--steps", 5)
    assert main(["pretrain", "--resume", str(folder), "--steps", "8", "--quiet"]) == 0
    assert "already finished at step 8 of 8" in fails(capsys, "pretrain", "--resume", folder)


def test_quiet_makes_no_samples(tmp_path, run, book):
    def samples(folder):
        return [record for record in read_log(folder / "log.jsonl") if "sample" in record]

    assert samples(run) == []
    asked = tmp_path / "asked"
    arguments = ["pretrain", str(book), "--output", str(asked), "--vocab-size", "270", *SMALL]
    assert main([*arguments, "--sample-interval", "6"]) == 0
    assert len(samples(asked)) == 1


def test_a_text_without_the_prompt_of_the_preset(tmp_path, capsys):
    """`char` samples after a new line, which this text has not; that is said before training, not after."""
    path = tmp_path / "line.txt"
    path.write_text("xylophone and zither. " * 60, encoding="utf-8")
    arguments = f"pretrain {path} --preset char --steps 2 {SHAPE} --output"
    with pytest.warns(UserWarning, match=r"samples start with 'x' instead"):
        assert main([*arguments.split(), str(tmp_path / "run")]) == 0
    (sample,) = [record["sample"] for record in read_log(tmp_path / "run" / "log.jsonl") if "sample" in record]
    assert sample.startswith("x")
    capsys.readouterr()
    told = fails(capsys, *arguments.split(), tmp_path / "other", "--prompt", "Q")
    assert "cannot encode the sample prompt 'Q'" in told
    assert "has no tokens" in fails(capsys, *arguments.split(), tmp_path / "other", "--prompt", "")
    assert not (tmp_path / "other" / "run.json").exists()


def test_a_damaged_checkpoint_is_named(tmp_path, book, capsys):
    folder = tmp_path / "run"
    main(["pretrain", str(book), "--output", str(folder), "--vocab-size", "270", *SMALL])
    newest = folder / "checkpoints" / "step-000006" / "optimizer.safetensors"
    newest.write_bytes(newest.read_bytes()[:-8])
    sentence = fails(capsys, "pretrain", "--resume", folder, "--steps", 8)
    assert "step-000006 is damaged (optimizer.safetensors has" in sentence
    assert "the good checkpoint before it is" in sentence and "step-000003" in sentence
    good = folder / "checkpoints" / "step-000003"
    arguments = ["pretrain", "--resume", folder, "--checkpoint", good, "--steps", 8, "--quiet"]
    assert main([str(argument) for argument in arguments]) == 0


def test_generate(run, capsys, monkeypatch):
    def write(*more):
        arguments = ["generate", "--model", str(run), "--prompt", "the cat", "--max-new-tokens", "8", *more]
        assert main(arguments) == 0
        return capsys.readouterr().out

    assert write("--seed", "1") == write("--seed", "1") != write("--seed", "2")
    assert write("--greedy") == write("--greedy")
    assert write("--greedy").startswith("the cat")
    several = write("--seed", "1", "--count", "3", "--top-p", "0.9").split("-" * 40)
    assert len(several) == 3 and len(set(several)) > 1
    monkeypatch.setattr("sys.stdin", io.StringIO("the dog\n"))
    assert main(["generate", "--model", str(run), "--prompt", "-", "--max-new-tokens", "2"]) == 0
    assert capsys.readouterr().out.startswith("the dog")
    checkpoint = str(run / "checkpoints" / "step-000003")
    assert main(["generate", "--model", checkpoint, "--prompt", "", "--max-new-tokens", "2"]) == 0


def test_generate_goes_on_beyond_the_context(run, capsys):
    assert main(["generate", "--model", str(run), "--max-new-tokens", "40", "--greedy"]) == 0
    assert len(capsys.readouterr().out) > 20  # the context is 16 tokens


def test_generate_refusals(run, tmp_path, capsys):
    assert "no model minilm/nonsense" in fails(capsys, "generate", "--model", "minilm/nonsense")
    assert "lacks tokenizer.json" in fails(capsys, "generate", "--model", tmp_path)
    assert "got '-1'" in fails(capsys, "generate", "--model", run, "--temperature=-1")
    assert "from 0 to 1, got '2'" in fails(capsys, "generate", "--model", run, "--top-p", 2)
    assert "drop one" in fails(capsys, "generate", "--model", run, "--greedy", "--top-k", 3)
    assert "drop one" in fails(capsys, "generate", "--model", run, "--greedy", "--count", 2)


def test_evaluate(run, book, tmp_path, capsys):
    def score(path, *more):
        assert main(["evaluate", str(path), "--model", str(run), "--json", *more]) == 0
        return json.loads(capsys.readouterr().out)

    numbers = score(book)
    assert 1 < numbers["perplexity"] < 400 and numbers["files"] == 1
    assert numbers["bits_per_byte"] == pytest.approx(numbers["bits_per_character"])  # ASCII
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(TEXT)
    twice = score(tmp_path)
    assert twice["files"] == 2 and twice["tokens"] == 2 * numbers["tokens"]
    assert twice["loss"] == pytest.approx(numbers["loss"])
    assert score(book, "--stride", "16")["tokens"] == numbers["tokens"]
    assert main(["evaluate", str(book), "--model", str(run), "--quiet"]) == 0
    table = capsys.readouterr().out
    assert re.search(rf"perplexity +{numbers['perplexity']:.2f}\n", table)


def test_evaluate_refusals(run, book, tmp_path, capsys):
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert "is empty" in fails(capsys, "evaluate", empty, "--model", run)
    assert "stride is from 1 to" in fails(capsys, "evaluate", book, "--model", run, "--stride", 999)
    assert "no model minilm/nonsense" in fails(capsys, "evaluate", book, "--model", "minilm/nonsense")


def test_tokenize(run, book, tmp_path, capsys):
    assert main(["tokenize", "the cat", "--model", str(run)]) == 0
    out = capsys.readouterr().out
    assert "tokens, 7 bytes" in out
    assert "".join(re.findall(r"'(.*)'", out)) == "the cat"
    assert main(["tokenize", "--file", str(book), "--model", str(run)]) == 0
    assert " more\n" in capsys.readouterr().out
    learnt = tmp_path / "tokenizer"
    assert main(["tokenize", "--train", str(book), "--vocab-size", "265", "--output", str(learnt)]) == 0
    assert "265 tokens" in capsys.readouterr().out
    assert main(["tokenize", "the the", "--model", str(learnt), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


def test_tokenize_refusals(run, book, capsys):
    assert "needs --output" in fails(capsys, "tokenize", "--train", book)
    assert "one of the arguments" in fails(capsys, "tokenize")
    assert "got 'x'" in fails(capsys, "tokenize", "--model", run, "--decode", "x")
    assert "999999" in fails(capsys, "tokenize", "--model", run, "--decode", "999999")


def test_gradcheck(capsys):
    assert main(["gradcheck", "softmax", "--mode", "projection"]) == 0
    assert "softmax" in capsys.readouterr().out
    assert "no cases for nonsense" in fails(capsys, "gradcheck", "nonsense")


def test_gradcheck_exit_code_of_a_wrong_gradient(capsys, monkeypatch):
    """A backward that is 0.1 % off is found, and the exit code says so."""

    def wrong(saved, grad):
        return (1.001 * grad * saved[0],)

    assert main(["gradcheck", "exp"]) == 0
    monkeypatch.setattr(elementwise, "EXP", dataclasses.replace(elementwise.EXP, backward=wrong))
    assert main(["gradcheck", "exp"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_info(capsys, monkeypatch):
    monkeypatch.setenv("MINILM_KERNELS", "numpy")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    for word in "minilm ", "Python ", "numpy ", "BLAS ", "bundled models", "auto = ", "MINILM_KERNELS=numpy\n":
        assert word in out
    with kernels.use("numpy"):
        assert main(["info"]) == 0
    assert "\nactive: numpy, for every operation\n" in capsys.readouterr().out
    both = {"matmul": "numba", "erf": "numpy", "adamw": "numba"}
    monkeypatch.setattr(kernels, "active", lambda: both)
    monkeypatch.delenv("MINILM_KERNELS")
    assert main(["info"]) == 0
    out = capsys.readouterr().out
    assert "\nactive: numba: matmul, adamw; numpy: erf\n" in out and "MINILM_KERNELS" not in out


def test_debug_shows_the_traceback(tmp_path):
    with pytest.raises(FileNotFoundError):
        main(["pretrain", str(tmp_path / "missing.txt"), "--debug"])


def test_unknown_verb(capsys):
    assert "invalid choice: 'train'" in fails(capsys, "train")


def test_interrupted_elsewhere(monkeypatch, capsys):
    def stop(options):
        raise KeyboardInterrupt

    monkeypatch.setattr("minilm.cli.info.run", stop)
    assert main(["info"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_mistake_in_the_code_keeps_its_traceback(monkeypatch):
    def broken(options):
        raise AttributeError("a mistake")

    monkeypatch.setattr("minilm.cli.info.run", broken)
    with pytest.raises(AttributeError):
        main(["info"])
