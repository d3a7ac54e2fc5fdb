"""Names become folders: local, bundled, cached or downloaded, and otherwise an error that helps."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest

from minilm import hub

FILES = ("config.json", ("model.safetensors", "model.safetensors.index.json"))


@pytest.fixture(autouse=True)
def lonely_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, no huggingface_hub, an empty cache, no bundled model, an empty working directory."""
    for variable in ("HUB_CACHE", "HOME", "HUB_OFFLINE"):
        monkeypatch.delenv("HF_" + variable, raising=False)
    for variable in ("HUGGINGFACE_HUB_CACHE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setattr(hub, "ASSETS", tmp_path / "assets")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


def make_folder(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True)
    for name in names:
        (folder / name).write_text("{}", encoding="utf-8")
    return folder


def make_cached(cache: Path, name: str, *names: str, commit: str = "abc123", ref: str = "main") -> Path:
    repository = cache / ("models--" + name.replace("/", "--"))
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / ref).write_text(commit, encoding="utf-8")
    return make_folder(repository / "snapshots" / commit, *names)


def fake_hub(monkeypatch: pytest.MonkeyPatch, action: object) -> None:
    module = types.ModuleType("huggingface_hub")
    module.snapshot_download = action  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)


def test_an_existing_folder_wins(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "work" / "gpt2", "config.json", "model.safetensors")
    make_cached(tmp_path / "xdg" / "huggingface" / "hub", "gpt2", "config.json", "model.safetensors")
    assert hub.resolve("gpt2", files=FILES).resolve() == folder
    assert hub.resolve(folder, files=FILES) == folder
    assert hub.resolve(str(folder)) == folder


def test_a_tuple_means_any_one_of_them(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "sharded", "config.json", "model.safetensors.index.json")
    assert hub.resolve(folder, files=FILES) == folder


def test_an_incomplete_folder_says_what_is_missing(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "half", "config.json")
    with pytest.raises(FileNotFoundError, match=r"lacks model.safetensors or model.safetensors.index.json"):
        hub.resolve(folder, files=FILES)


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    path = make_folder(tmp_path / "m", "config.json") / "config.json"
    with pytest.raises(NotADirectoryError, match="pass the folder that contains it"):
        hub.resolve(path)


@pytest.mark.parametrize("name", ["./nowhere", "/no/such/folder", "a/b/c", "with space", Path("nowhere")])
def test_paths_are_never_looked_up_on_the_hub(name: str | Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, lambda *args, **kwargs: pytest.fail("asked the Hub"))
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        hub.resolve(name, files=FILES)


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(ValueError, match="empty name"):
        hub.resolve("")


def test_bundled_models_are_listed_and_found(tmp_path: Path) -> None:
    assert hub.bundled() == []
    folder = make_folder(tmp_path / "assets" / "tiny", "config.json")
    make_folder(tmp_path / "assets" / "not-a-model")
    assert hub.bundled() == ["minilm/tiny"]
    assert hub.resolve("minilm/tiny", files=("config.json",)) == folder
    with pytest.raises(FileNotFoundError, match="bundled models: minilm/tiny"):
        hub.resolve("minilm/large")


def test_a_bundled_name_cannot_leave_its_folder(tmp_path: Path) -> None:
    make_folder(tmp_path / "outside", "config.json")
    with pytest.raises(FileNotFoundError):
        hub.resolve("minilm/../outside")


@pytest.mark.parametrize("name", ["gpt2", "someone/some.model-1"])
def test_the_cache_is_read_through_its_reference(name: str, tmp_path: Path) -> None:
    cache = tmp_path / "xdg" / "huggingface" / "hub"
    make_folder(cache / ("models--" + name.replace("/", "--")) / "snapshots" / "older", "config.json")
    snapshot = make_cached(cache, name, "config.json", "model.safetensors", commit="newer")
    assert hub.resolve(name, files=FILES) == snapshot


def test_a_moved_model_is_found_under_its_new_name(tmp_path: Path) -> None:
    snapshot = make_cached(tmp_path / "xdg" / "huggingface" / "hub", "openai-community/gpt2", "vocab.json")
    assert hub.resolve("gpt2", files=("vocab.json",)) == snapshot


def test_a_revision_is_a_reference_or_a_commit(tmp_path: Path) -> None:
    cache = tmp_path / "xdg" / "huggingface" / "hub"
    snapshot = make_cached(cache, "a/b", "config.json", commit="c0ffee", ref="v1")
    assert hub.resolve("a/b", revision="v1") == snapshot
    assert hub.resolve("a/b", revision="c0ffee") == snapshot
    with pytest.raises(FileNotFoundError):
        hub.resolve("a/b")


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert hub.cache_folder() == tmp_path / "xdg" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    assert hub.cache_folder() == tmp_path / "home" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    assert hub.cache_folder() == tmp_path / "cache"
    snapshot = make_cached(tmp_path / "cache", "a/b", "config.json")
    assert hub.resolve("a/b") == snapshot


def test_an_incomplete_snapshot_is_not_used(tmp_path: Path) -> None:
    make_cached(tmp_path / "xdg" / "huggingface" / "hub", "gpt2", "config.json")
    with pytest.raises(FileNotFoundError, match="huggingface_hub is not installed"):
        hub.resolve("gpt2", files=FILES)


def test_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        hub.resolve("gpt2", files=FILES)
    message = str(caught.value)
    assert "config.json, model.safetensors or model.safetensors.index.json" in message
    assert 'pip install "minilm[hub]"' in message
    assert "openai-community/gpt2 on the Hugging Face Hub" in message
    make_folder(tmp_path / "assets" / "tiny", "config.json")
    with pytest.raises(FileNotFoundError, match="comes with minilm: minilm/tiny"):
        hub.resolve("gpt2", files=FILES)


def test_the_hub_is_asked_only_for_what_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "snapshot", "config.json", "model.safetensors", "vocab.json")
    asked: list[tuple[str, dict[str, object]]] = []

    def download(name: str, **options: object) -> str:
        asked.append((name, options))
        return str(folder)

    fake_hub(monkeypatch, download)
    assert hub.resolve("a/b", files=FILES, revision="v2") == folder
    assert hub.resolve("a/b", files=("vocab.json",)) == folder
    assert asked[0][0] == "a/b" and asked[0][1]["revision"] == "v2"
    assert asked[0][1]["allow_patterns"] == ["*.json", "*.txt", "*.safetensors"]
    assert asked[1][1]["allow_patterns"] == ["*.json", "*.txt"]
    with pytest.raises(FileNotFoundError, match="lacks merges.txt"):
        hub.resolve("a/b", files=("merges.txt",))


def test_offline_never_asks_the_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_hub(monkeypatch, lambda *args, **kwargs: pytest.fail("asked the Hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="HF_HUB_OFFLINE"):
        hub.resolve("gpt2")


def test_a_failed_download_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def download(name: str, **options: object) -> str:
        raise ConnectionError("no route to host\nlong trace")

    fake_hub(monkeypatch, download)
    with pytest.raises(FileNotFoundError, match=r"failed \(ConnectionError: no route to host\)") as caught:
        hub.resolve("gpt2")
    assert isinstance(caught.value.__cause__, ConnectionError)
