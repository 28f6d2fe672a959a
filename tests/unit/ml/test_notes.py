"""What the engine says, in every language of the report."""

from string import Formatter

import pytest

from app.services.ml.notes import WORDS, note, say_stored


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_both_languages_have_every_sentence_and_no_value_that_the_other_lacks() -> None:
    assert WORDS["en"].keys() == WORDS["es"].keys()
    for code, forms in WORDS["en"].items():
        spanish = WORDS["es"][code]
        assert all(fields(text) <= fields(forms[-1]) for text in (*forms, *spanish)), code


@pytest.mark.parametrize(
    ("n", "language", "sentence"),
    [
        (1, "en", "One day of sales is too little to compare methods: mean by rule."),
        (5, "en", "5 days of sales are too few to compare methods: mean by rule."),
        (1, "es", "Un día de ventas no basta para comparar métodos: se usa «mean»."),
        (5, "es", "5 días de ventas no bastan para comparar métodos: se usa «mean»."),
    ],
)
def test_one_and_many_are_said_as_people_say_them(n: int, language: str, sentence: str) -> None:
    assert note("too_short_to_compare", n=n, method="mean").say(language) == sentence


def test_methods_are_called_as_the_reader_knows_them() -> None:
    found = note("candidate_failed", method="prophet")

    assert str(found) == "prophet failed and took no part."
    assert found.say("es", str.upper) == "El método «PROPHET» falló y no participó."


def test_a_blend_is_told_with_its_shares() -> None:
    found = note("chosen_blend", n=3, shares=[["snaive", 0.6], ["naive", 0.4]])

    assert str(found) == "A blend weighted by accuracy, of 3 methods compared on past weeks: snaive 60%, naive 40%."


def test_a_stored_note_is_said_again_and_one_of_a_newer_version_stays_english() -> None:
    stored = note("short_history", n=3).as_dict()

    assert stored["text"] == "Short history: 3 days. The forecast becomes better with every week."
    assert say_stored(stored, "es").startswith("Historia corta: 3 días.")
    assert say_stored({"code": "from_tomorrow", "values": {}, "text": "Hello."}, "es") == "Hello."
