"""Text files are read in pieces, and what is not text is refused with its place."""

import pytest

from minilm.data import TextFile, text_files


def test_pieces_join_to_the_text_and_cut_before_white_space(tmp_path):
    text = "alpha beta\n\ngamma\tdelta  epsilon zeta\n" * 40
    path = tmp_path / "a.txt"
    path.write_text(text, encoding="utf-8")
    pieces = list(TextFile(path).pieces(size=50))
    assert "".join(pieces) == text
    assert len(pieces) > 10
    for before, after in zip(pieces, pieces[1:], strict=False):
        assert after[0].isspace() and not before[-1].isspace()
        assert len(before) <= 50


def test_pieces_without_white_space_are_still_bounded(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("x" * 10_000, encoding="utf-8")
    pieces = list(TextFile(path).pieces(size=100))
    assert "".join(pieces) == "x" * 10_000
    assert len(pieces) > 50 and max(map(len, pieces)) <= 1600


def test_newlines_and_byte_order_mark_are_normalised(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n")
    assert TextFile(path).read() == "one\ntwo\nthree\n"


def test_a_character_across_two_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr("minilm.data.text.BLOCK_BYTES", 3)
    path = tmp_path / "a.txt"
    path.write_text("añ€😀\r\nb", encoding="utf-8", newline="")
    assert TextFile(path).read() == "añ€😀\nb"


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_wrong_encoding_names_file_byte_and_remedy(tmp_path, monkeypatch, block):
    monkeypatch.setattr("minilm.data.text.BLOCK_BYTES", block)
    path = tmp_path / "latin.txt"
    path.write_bytes("ok é then ".encode() + "caf\xe9 ".encode("latin-1"))
    with pytest.raises(
        ValueError, match=r"latin\.txt is not utf-8: byte 14 is 0xe9.*UTF-8 or pass its encoding"
    ):
        TextFile(path).read()
    assert TextFile(path, encoding="latin-1").read().endswith("café ")


def test_truncated_character_at_the_end(tmp_path):
    path = tmp_path / "cut.txt"
    path.write_bytes("fin €".encode()[:-1])
    with pytest.raises(ValueError, match="byte 4 is 0xe2"):
        TextFile(path).read()


def test_binary_file_is_refused(tmp_path):
    path = tmp_path / "image.txt"
    path.write_bytes(b"PNG\x00\x01")
    with pytest.raises(ValueError, match=r"image\.txt is not text: byte 3 is zero"):
        TextFile(path).read()
    utf16 = tmp_path / "utf16.txt"
    utf16.write_text("hello", encoding="utf-16")
    assert TextFile(utf16, encoding="utf-16").read() == "hello"


def test_unknown_encoding(tmp_path):
    with pytest.raises(ValueError, match="no encoding 'klingon'"):
        TextFile(tmp_path / "a.txt", encoding="klingon")


def test_folder_is_sorted_and_filtered(tmp_path):
    for name in ("b.txt", "a.md", "sub/c.txt", ".hidden/d.txt", ".e.txt", "f.bin", "empty.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("" if name == "empty.txt" else name, encoding="utf-8")
    names = [file.path.relative_to(tmp_path).as_posix() for file in text_files(tmp_path)]
    assert names == ["a.md", "b.txt", "sub/c.txt"]
    assert [file.path.name for file in text_files(tmp_path, pattern="*.bin")] == ["f.bin"]


def test_what_cannot_be_read_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder"):
        text_files(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"holds no file \*\.txt"):
        text_files(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"a\.txt is empty"):
        text_files(tmp_path / "a.txt")
    with pytest.raises(ValueError, match="are empty"):
        text_files(tmp_path)
