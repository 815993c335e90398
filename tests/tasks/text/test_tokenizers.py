"""Tokens: text goes there and back, in one go or token by token, and what is unknown is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gatewise.tasks.errors import InputError
from gatewise.tasks.text.sources import sources
from gatewise.tasks.text.tokenizers import Bytes, Chars, SubWords, Tokenizer, from_json, learned

TEXT = "Die Katze sitzt auf der Matte. Die Katze schläft. 猫が寝る 🦁🦁 the cat sat on the mat\n\n  twice  \t"


def word_level() -> SubWords:
    """A tokenizer.json whose tokens are words: what a token looks like depends on those before it."""
    library: Any = pytest.importorskip("tokenizers")
    from tokenizers import decoders, models, pre_tokenizers, trainers

    made = library.Tokenizer(models.WordLevel(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    made.train_from_iterator([TEXT], trainers.WordLevelTrainer(special_tokens=["<unk>"], show_progress=False))
    return SubWords(made)


@pytest.fixture(params=["char", "byte", "bpe"])
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return learned(request.param, sources([TEXT]), 300)


def test_text_goes_there_and_back(tokenizer: Tokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.end == tokenizer.size - 1 == int(ids.max(initial=tokenizer.end))
    assert tokenizer.end not in ids
    assert ids.dtype == tokenizer.dtype
    assert tokenizer.characters(ids) == len(TEXT)
    assert tokenizer.decode([tokenizer.end, *ids, tokenizer.end]) == TEXT


def test_json_gives_the_same_tokenizer(tokenizer: Tokenizer) -> None:
    again = from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert (again.kind, again.size) == (tokenizer.kind, tokenizer.size)
    assert again.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()


def test_the_text_of_tokens_one_by_one_never_has_half_a_character(tokenizer: Tokenizer) -> None:
    decoder = tokenizer.decoder()
    parts = [decoder.push(int(token)) for token in tokenizer.encode(TEXT)]
    assert "".join(parts) == TEXT
    assert decoder.finish() == ""
    assert not any("�" in part for part in parts)


@pytest.mark.parametrize("kind", ["byte", "bpe"])
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_bytes_and_sub_words_know_every_text(kind: str, text: str) -> None:
    tokenizer = Bytes() if kind == "byte" else LEARNED
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.characters(tokenizer.encode(text)) == len(text)


LEARNED = SubWords.learn(sources([TEXT]), 300)


def test_sub_words_are_fewer_than_bytes_and_no_more_than_asked_for() -> None:
    assert 260 < LEARNED.size <= 300
    assert len(LEARNED.encode(TEXT)) < len(TEXT.encode())
    assert any(len(LEARNED.looks(token)) > 3 for token in range(300))


def test_the_sample_for_sub_words_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    from gatewise.tasks.text import tokenizers as module

    monkeypatch.setattr(module, "SAMPLE", 1000)
    texts = [f"{k:05} " * 20 for k in range(100)]
    taken = list(module._sample(sources(texts)))
    assert 800 <= sum(map(len, taken)) <= 1200
    assert int(taken[-1][:5]) > 80


def test_unknown_characters_are_named() -> None:
    tokenizer = Chars("abc ")
    with pytest.raises(InputError, match=r"no characters 'X' \(U\+0058\), 'é' \(U\+00E9\); leave out .*'byte'"):
        tokenizer.encode("a Xé cab X")
    with pytest.raises(InputError, match=r"no character '\\n' \(U\+000A\)"):
        tokenizer.encode("abc\n")
    with pytest.raises(InputError, match="and 16 more"):
        tokenizer.encode("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
    (piece,) = sources(["abcd"]).pieces()
    with pytest.raises(InputError, match=r"text 1: .*'d'"):
        tokenizer.encode_piece(piece)
    assert tokenizer.encode("").tolist() == []
    assert Chars("").encode("").tolist() == []


def test_bytes_read_what_is_no_text(tmp_path: Path) -> None:
    file = tmp_path / "picture"
    file.write_bytes(bytes(range(256)))
    ids = np.concatenate([Bytes().encode_piece(piece) for piece in sources(file).pieces()])
    assert ids.tolist() == list(range(256))
    assert Bytes().decode([0xC3, 65, 0xC3]) == "�A�"


def test_special_tokens_in_a_text_are_text() -> None:
    library: Any = pytest.importorskip("tokenizers")
    made = library.Tokenizer.from_str(json.dumps(LEARNED.to_json()["library"]))
    made.add_special_tokens(["<|endoftext|>"])
    tokenizer = SubWords(made)
    text = "the cat <|endoftext|> the mat"
    assert tokenizer.size == LEARNED.size + 1
    assert LEARNED.end not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_given_file_is_used_and_decodes_token_by_token(tmp_path: Path) -> None:
    words = word_level()
    file = tmp_path / "tokenizer.json"
    file.write_text(json.dumps(words.to_json()["library"]))
    tokenizer = learned(str(file), sources([TEXT]), 0)
    text = "the cat sat auf der Matte."
    ids = tokenizer.encode(text)
    decoder = tokenizer.decoder()
    parts = [decoder.push(int(token)) for token in ids]
    assert "".join(parts) == tokenizer.decode(ids) == text
    assert parts[1] == " cat"
    assert tokenizer.characters(ids) == len(text)
    assert tokenizer.looks(tokenizer.end) == "<end>"


def test_what_is_no_tokenizer_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tokenizer must be one of char, byte, bpe or"):
        learned("words", sources([TEXT]), 0)
    broken = tmp_path / "tokenizer.json"
    broken.write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer.json is no tokenizer.json that can be read"):
        learned(str(broken), sources([TEXT]), 0)
    for value in (None, {"kind": "words"}, {"kind": "char"}):
        with pytest.raises(InputError, match="foreign"):
            from_json(value)
    with pytest.raises(InputError, match="damaged"):
        from_json({"kind": "bpe", "library": {}})
