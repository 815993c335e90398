"""Texts: the same alone and among others, the network's own probabilities, ended where they should."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from tasks.language.conftest import ALPHABET, KINDS, network

from gatewise.tasks.errors import InputError
from gatewise.tasks.language.generate import generate, likeliest
from gatewise.tasks.language.network import LanguageNetwork
from gatewise.tasks.language.sampling import Sampling
from gatewise.tasks.language.steps import Steps
from gatewise.tasks.text.tokenizers import Chars

PROMPTS = ["abc", "", "h", "abc", "cab. " * 9, "e.g.", "fad", "bed"]
CHARS = Chars(ALPHABET)
HOW = [
    Sampling(),
    Sampling(temperature=0.7, top_k=8, top_p=0.9, min_p=0.01, repetition_penalty=1.2),
    Sampling(temperature=0),
]


def texts(
    made: LanguageNetwork,
    prompts: list[str],
    how: Sampling,
    length: int = 40,
    seed: int = 1,
    stop: tuple[str, ...] = (),
) -> list[str]:
    found = [""] * len(prompts)
    for number, piece in generate(made, CHARS, prompts, length, how, seed, stop):
        assert piece
        found[number] += piece
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "gru"])
@pytest.mark.parametrize("how", HOW)
def test_a_text_is_the_same_alone_and_among_others(kind: str, name: str, how: Sampling) -> None:
    made = network(kind, name)
    together = texts(made, PROMPTS, how)
    alone = [texts(made, [prompt], how)[0] for prompt in PROMPTS]
    assert together[:3] + together[4:] == alone[:3] + alone[4:]
    assert texts(made, PROMPTS, how) == together


def test_the_same_prompt_again_and_another_seed_give_other_texts() -> None:
    made = network()
    first, second = (texts(made, ["abc"] * 8, Sampling(), seed=seed) for seed in (1, 2))
    assert len(set(first)) > 4
    assert len(set(first) | set(second)) > len(set(first)) + 4
    assert texts(made, ["h", *["abc"] * 3], Sampling())[1:] == first[:3]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["gru_reset_after", "lstm", "lstm_peephole"])
def test_steps_give_the_bits_of_the_whole_sequence(kind: str, name: str) -> None:
    made, ids = network(kind, name), CHARS.encode("abcdefgh. cab").tolist()
    steps = Steps(made, 2)
    logits = [steps.begin([[], ids[:3]], CHARS.end).clone()]
    for token in ids:
        logits.append(steps.step([token, token]).clone())
    with torch.no_grad():
        seen, _ = made.run(torch.tensor([[CHARS.end], *[[i] for i in ids]]))
        expected = made.log_probabilities(seen[:, 0])
    found = torch.stack(logits)[:, 0].log_softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    once = Steps(made, 1).begin([ids], CHARS.end)
    assert torch.equal(once[0], logits[-1][0])


def test_greedy_texts_take_the_likeliest_token_of_the_network() -> None:
    made = network()
    (text,) = texts(made, ["ab"], Sampling(temperature=0), 12)
    ids = torch.tensor([CHARS.end, *CHARS.encode("ab" + text).tolist()])
    with torch.no_grad():
        logs = made.log_probabilities(made.run(ids[:, None])[0][:, 0])
    assert logs.argmax(1)[2 : 2 + len(text)].tolist() == ids[3:].tolist()


def test_texts_end_at_their_length_or_where_the_network_says_so() -> None:
    made = network()
    assert all(len(text) <= 7 for text in texts(made, PROMPTS, Sampling(), 7))
    with torch.no_grad():
        made.head.bias[CHARS.end] = -1e4
        assert [len(text) for text in texts(made, PROMPTS, Sampling(), 7)] == [7] * len(PROMPTS)
        made.head.bias[CHARS.end] = 1e4
        assert texts(made, PROMPTS, Sampling(), 7) == [""] * len(PROMPTS)


def test_texts_end_before_the_first_stop() -> None:
    made = network()
    with torch.no_grad():
        made.head.bias[CHARS.end] = -1e4
    whole = texts(made, PROMPTS, Sampling(), 60)
    for stop in (("a",), ("ab", "c"), (whole[0][5:9],), ("no such text",)):
        expected = [min((t[: t.find(s)] for s in stop if s in t), key=len, default=t) for t in whole]
        assert texts(made, PROMPTS, Sampling(), 60, stop=stop) == expected
    with pytest.raises(InputError, match="stop must hold texts that are not empty"):
        texts(made, ["a"], Sampling(), stop=("",))


def test_pieces_come_while_the_text_is_written() -> None:
    made = network()
    with torch.no_grad():
        made.head.bias[CHARS.end] = -1e4
    writing = generate(made, CHARS, ["abc"], 10**9, Sampling(), 0)
    assert len("".join(next(writing)[1] for _ in range(50))) == 50
    assert not torch.is_inference_mode_enabled()
    assert torch.is_grad_enabled()
    writing.close()


def test_a_prompt_that_cannot_be_read_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"no character 'X' \(U\+0058\)"):
        generate(network(), CHARS, ["abc", "Xa"], 5, Sampling(), 0)


def test_a_wide_beam_finds_the_likeliest_of_all_texts() -> None:
    made = network()
    found = likeliest(made, CHARS, "ab", 2, 200, length_penalty=0.0)
    expected = {}
    for text in ["", *ALPHABET, *("".join(pair) for pair in product(ALPHABET, repeat=2))]:
        ids = [CHARS.end, *CHARS.encode("ab" + text).tolist(), *[CHARS.end] * (len(text) < 2)]
        with torch.no_grad():
            logs = made.log_probabilities(made.run(torch.tensor(ids)[:, None])[0][:, 0])
        expected[text] = float(sum(logs[k - 1, ids[k]] for k in range(3, len(ids))))
    best = sorted(expected, key=lambda text: -expected[text])
    assert [text for text, _ in found[:20]] == best[:20]
    assert [total for _, total in found[:20]] == pytest.approx([expected[text] for text in best[:20]], abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_a_beam_of_one_is_greedy(kind: str) -> None:
    made = network(kind)
    ((text, _),) = likeliest(made, CHARS, "ab", 9, 1, length_penalty=0.0)
    (greedy,) = texts(made, ["ab"], Sampling(temperature=0), 9)
    assert greedy.startswith(text)
