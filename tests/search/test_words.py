"""What a word is, and that the index never lacks what a text has."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atlas_async.errors import UsageError
from atlas_async.search.words import TERM_CHARS, Phrase, folded, is_spaceless, terms_of, words_of

LETTERS = "abAB12éÉßſﬁＡ１東京都かがｶﾞタコスไทยกিन्दी한국어 .,-_@\u00ad\u200b\u0301İıΣσςйИ"
TEXTS = (
    st.text(st.sampled_from(LETTERS), max_size=30)
    | st.text("東京都a ", max_size=8)
    | st.text(max_size=20)
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Müller", "MULLER"),
        ("résumé", "resume"),
        ("Straße", "STRASSE"),
        ("ﬁnance", "Finance"),
        ("ＡＢＣ１", "abc1"),
        ("ΟΔΟΣ", "οδος"),
        ("ёлка", "елка"),
        ("ｶﾞ", "ガ"),
        ("e\u0301", "É"),
        ("co\u00adoperate", "cooperate"),
        ("İstanbul", "istanbul"),
        ("مُحَمَّد", "محمد"),
        ("محـــمد", "محمد"),
        ("الرَّحْمٰن", "الرحمن"),
        ("שָׁלוֹם", "שלום"),
        ("\ufb2a", "ש"),
        ("❤\ufe0f", "❤"),
        ("з\u0483", "з"),
    ],
)
def test_what_is_one(one: str, other: str) -> None:
    """Case, accents, width, ligatures and unseen hyphens make no difference."""
    assert folded(one) == folded(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("か", "が"), ("o", "ø"), ("한", "하"), ("ни", "не"), ("दिन", "दान"), ("क", "क़"), ("أ", "ا")],
)
def test_what_is_not_one(one: str, other: str) -> None:
    """Letters that are others in their script stay others."""
    assert folded(one) != folded(other)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Hello, World!", ["hello", "world"]),
        ("ann.miller@contoso.com", ["ann", "miller", "contoso", "com"]),
        ("plan_B-2.pdf", ["plan", "b", "2", "pdf"]),
        ("Version2 東京都 ok", ["version2", "東", "京", "都", "ok"]),
        ("한국어 메일", ["한국어", "메일"]),
        ("हिन्दी में दिनांक", ["हिन्दी", "में", "दिनांक"]),
        ("தமிழ்-மொழி", ["தமிழ்", "மொழி"]),
        ("বাংলা, తెలుగు", ["বাংলা", "తెలుగు"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        ("\u093f x \u20e3", ["x"]),
        ("1\ufe0f\u20e3", ["1"]),
        ("東\u302a京", ["東", "京"]),
        ("...", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Words are letters and digits; where a script has no spaces every character is one."""
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("phrase", "text", "found"),
    [
        ("plan", "The planning", True),
        ("plan", "an airplane", False),
        ('"plan"', "The planning", False),
        ('"plan"', "The plan.", True),
        ("project pl", "Project: plan", True),
        ("project pl", "plan for the project", False),
        ("a a b", "a a a b", True),
        ("東京", "新東京駅", True),
        ("京東", "新東京駅", False),
        ("駅", "新東京駅", True),
        ("bob@fab", "Bob@Fabrikam.example", True),
        ("b", "", False),
        ("दिन", "दान", False),
        ("दिन", "दिनांक", True),
        ('"दिन"', "दिनांक", False),
        ('"दिन"', "आज का दिन।", True),
        ("नट", "मिनट", False),
        ("محمد", "قال مُحَمَّدٌ", True),
    ],
)
def test_phrases(phrase: str, text: str, found: bool) -> None:
    """Words must follow one another; the last may be a beginning unless quotes say otherwise."""
    assert Phrase.parse(phrase).is_in(words_of(text)) is found


@pytest.mark.parametrize("text", ["", "  ", "...", '""', "_"])
def test_nothing_to_look_for(text: str) -> None:
    """A text without a letter or digit is refused."""
    with pytest.raises(UsageError, match="a letter or a digit"):
        Phrase.parse(text)


def in_terms(phrase: Phrase, terms: set[str]) -> bool:
    """Tell whether an index of these terms lets the phrase pass."""
    return all(
        any(term.startswith(it.term) for term in terms) if it.prefix else it.term in terms
        for it in phrase.lookups()
    )


@given(text=TEXTS, part=st.data(), whole=st.booleans())
def test_index_never_lacks_what_a_text_has(text: str, part: st.DataObject, whole: bool) -> None:
    """Whatever piece of a text is looked for: when it is in the text, the index lets it pass."""
    start = part.draw(st.integers(0, len(text)))
    piece = text[start : part.draw(st.integers(start, len(text)))]
    words = tuple(words_of(piece))
    if not words:
        return
    phrase = Phrase(words, whole)
    held = words_of(text)
    if phrase.is_in(held):
        assert in_terms(phrase, set(terms_of(held)))


@given(words=st.lists(st.text("ab", min_size=TERM_CHARS - 2, max_size=TERM_CHARS + 2), max_size=3))
def test_long_words_pass(words: list[str]) -> None:
    """Words beyond what the index holds of one are still let pass, and so are their beginnings."""
    text = " ".join(words)
    for place, word in enumerate(words):
        for end in range(1, len(word) + 1):
            phrase = Phrase((*words[:place], word[:end]))
            assert phrase.is_in(words_of(text))
            assert in_terms(phrase, set(terms_of(words_of(text))))


def test_pairs_tell_texts_apart_that_have_the_same_characters() -> None:
    """The index excludes a text in which the characters stand in another order."""
    assert not in_terms(Phrase.parse("東京"), set(terms_of(words_of("京 a 東"))))


def test_every_mark_of_unicode_stays_with_its_letter() -> None:
    """Whatever is a mark never parts a word, nor is it one."""
    iota_below = "\u0345"  # folded into a letter, as Unicode has it
    for number in range(sys.maxunicode + 1):
        char = chr(number)
        if (
            char != iota_below
            and unicodedata.category(char).startswith("M")
            and not is_spaceless(char)
        ):
            assert len(words_of(f"क{char}ख")) == 1, hex(number)
            assert words_of(f" {char} ") == []
