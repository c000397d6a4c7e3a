"""The vocabulary that a single file lacks is CLIP's own, built from a package that ships it."""

from __future__ import annotations

from pathlib import Path

import pytest

from workbench.errors import CorruptWeights
from workbench.models import vocabulary

TEXTS = [
    "a photo of a cat",
    "portrait of Ana, 35mm, don't 12345",
    "naïve café 漢字 😀",
    "  UPPER   case  ",
    "",
    "f/1.8 (sharp eyes:1.2)",
]


def test_it_has_the_sizes_of_the_hubs_files() -> None:
    words, merges = vocabulary.words()
    assert (len(words), words["<|startoftext|>"], words["<|endoftext|>"], words["!"]) == (49_408, 49_406, 49_407, 0)
    text = "#version: 0.2\n" + "".join(f"{first} {second}\n" for first, second in merges)
    assert len(text.encode()) == 524_619  # the hub's merges.txt


@pytest.mark.parametrize("text", TEXTS)
def test_it_reads_as_open_clips_own_tokenizer(text: str) -> None:
    import open_clip

    theirs = [number for number in open_clip.SimpleTokenizer()(text)[0].tolist() if number]
    assert vocabulary.clip_tokenizer("tokenizer")(text).input_ids == theirs


def test_the_two_tokenizers_differ_in_what_they_pad_with() -> None:
    padded = [
        vocabulary.clip_tokenizer(part)("a face", padding="max_length", max_length=77).input_ids
        for part in ("tokenizer", "tokenizer_2")
    ]
    assert [len(ids) for ids in padded] == [77, 77] and [ids[-1] for ids in padded] == [49_407, 0]


def test_a_damaged_file_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / vocabulary.FILE).write_bytes(b"no gzip")
    monkeypatch.setattr(vocabulary, "merges_file", lambda: tmp_path / vocabulary.FILE)
    vocabulary.words.cache_clear()
    with pytest.raises(CorruptWeights, match="install open-clip-torch again"):
        vocabulary.words()
    vocabulary.words.cache_clear()
