"""Pairs from files: what is read, and the sentence with the line for everything else."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gatewise.tasks.errors import InputError
from gatewise.tasks.translate.pairs import read_pairs, write_pairs
from gatewise.tasks.translate.sides import Sides

GOOD = "a dog\tun chien\na cat\tun chat\n"


def test_tables_two_files_lists_and_gzip_give_the_same(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("\ufeffa  dog\tun chien\r\na cat \tun chat", encoding="utf-8")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(GOOD.encode()))
    (tmp_path / "a.en").write_text("a dog\na cat\n")
    (tmp_path / "a.fr").write_text("un chien\nun chat\n")
    ways = [tmp_path / "a.tsv", str(tmp_path / "a.tsv.gz"), (tmp_path / "a.en", tmp_path / "a.fr")]
    found = [read_pairs(way) for way in [*ways, [("a dog", "un chien"), ("a cat", "un chat")]]]
    assert all(pairs.same(found[0]) for pairs in found)
    assert (found[0].source, found[0].lines) == (("a dog", "a cat"), (1, 2))
    assert gzip.decompress(write_pairs(found[0])).decode() == GOOD
    assert write_pairs(found[0]) == write_pairs(found[1])


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (GOOD + "a\t \n", "a.tsv, line 3: the target is empty"),
        (GOOD + "\tb\n", "a.tsv, line 3: the source is empty"),
        (GOOD + "alone\n", "a.tsv, line 3: expected source, tab, target, got 0 tabs"),
        (GOOD + "a\tb\tc\n", "line 3: expected source, tab, target, got 2 tabs"),
        ("", "a.tsv is empty"),
        (GOOD.encode() + "été\tx\n".encode("latin-1"), r"a.tsv, line 3: not UTF-8 \(byte 0xe9\)"),
        (GOOD.encode("utf-16"), "a.tsv, line 1: not UTF-8"),
        ("a\tb\n".encode("utf-16-le"), "line 1: not UTF-8 text, since it holds a zero byte"),
    ],
    ids=["target", "source", "tabs", "many tabs", "empty", "latin-1", "utf-16", "utf-16-le"],
)
def test_bad_tables_get_a_sentence_with_the_line(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    (tmp_path / "a.tsv").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=sentence):
        read_pairs(tmp_path / "a.tsv")


def test_other_bad_data_get_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.en").write_text("one\ntwo\nthree\n")
    (tmp_path / "a.fr").write_text("un\ndeux\n")
    (tmp_path / "b.tsv.gz").write_text(GOOD)
    with pytest.raises(InputError, match=r"a.en has 3 lines and .*a.fr has 2, expected as many: line 3 is alone"):
        read_pairs((tmp_path / "a.en", tmp_path / "a.fr"))
    with pytest.raises(InputError, match="there is no file"):
        read_pairs(tmp_path / "none.tsv")
    with pytest.raises(InputError, match="damaged or not gzipped"):
        read_pairs(tmp_path / "b.tsv.gz")
    with pytest.raises(InputError, match="is not a regular file"):
        read_pairs(tmp_path)
    with pytest.raises(InputError, match=r"data must be the path of a TSV file, .* got int"):
        read_pairs(3)
    with pytest.raises(InputError, match="data, pair 2: the target is empty"):
        read_pairs([("a", "b"), ("c", "")])


def test_swapped_columns_are_found() -> None:
    english = ["the dog sees a cat", "a cat eats", "the cat sees the dog"]
    french = ["le chien voit un chat", "un chat mange", "le chat voit le chien"]
    good = [(e, f) for e in english for f in french]
    sides = Sides(read_pairs(good))
    sides.check(sides.pairs)
    with pytest.raises(InputError, match="data, line 2: the columns look swapped"):
        sides.check(read_pairs([good[0], good[1][::-1]]))
    one_wrong = read_pairs([*good[:4], good[4][::-1], *good[5:]])
    with pytest.raises(InputError, match="line 5: the columns look swapped"):
        Sides(one_wrong).check(one_wrong)
    sides.check(read_pairs([("Paris Saint-Germain 2024", "Paris Saint-Germain 2024")]))
