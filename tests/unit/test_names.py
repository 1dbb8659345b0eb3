"""Names: readings of PN strings, skeletons, scripts, and what normalising must never do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.data import get_charset_files

from protocol.matching.names import readings, skeleton, words

pn_strings = st.text(
    st.one_of(st.sampled_from("^=, -'abcJOSÉ李山田さ김김é\u00df"), st.characters()), max_size=40
)


def only_reading(name):
    (reading,) = readings(name)
    return reading


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Mohammed", "Muhamad"),
        ("Gaddafi", "Qadhafi"),
        ("Tchaikovsky", "Chaikovskij"),
        ("Tchaikovsky", "Чайковский"),
        ("Jelena", "Yelena"),
        ("Jelena", "Елена"),
        ("Mueller", "Müller"),
        ("Schmidt", "Schmitt"),
        ("Schmidt", "Shmidt"),
        ("Sokolov", "Sokoloff"),
        ("Abdulrahman", "Abdel Rahman"),
        ("Christian", "Kristian"),
        ("Schwartz", "Schwarz"),
        ("Alexander", "Aleksander"),
        ("Philip", "Filip"),
    ],
)
def test_spellings_of_one_name_share_a_skeleton(one, other):
    assert skeleton("".join(words(one))) == skeleton("".join(words(other)))


@pytest.mark.parametrize(
    ("one", "other"), [("Schmidt", "Sauer"), ("Maria", "Marta"), ("Sokolov", "Smirnov")]
)
def test_other_names_have_other_skeletons(one, other):
    assert skeleton(words(one)[0]) != skeleton(words(other)[0])


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789", max_size=20))
def test_a_skeleton_is_short_and_empty_only_for_nothing(word):
    assert len(skeleton(word)) <= 6
    assert bool(skeleton(word)) == bool(word)


@given(pn_strings)
def test_words_are_plain_and_normalising_twice_changes_nothing(text):
    found = words(text)
    assert all(word.isascii() and word.isalnum() and word == word.lower() for word in found)
    assert words(" ".join(found)) == found


@given(pn_strings)
def test_every_string_has_readings_that_can_be_compared(name):
    for reading in readings(name):
        assert reading.families
        assert all(reading.families)
        assert all(reading.givens)
        assert len(reading.givens) <= 3
        if reading.script == "latin":
            assert "".join(reading.families + reading.givens).isascii()


def test_the_five_components_are_read_and_prefix_and_suffix_dropped():
    reading = only_reading("Adams^John Robert^Quincy^Rev.^B.A. M.Div.")
    assert reading.family == "adams"
    assert reading.givens == ("john", "robert", "quincy")
    assert reading.joined_given == "johnrobert"


@pytest.mark.parametrize(
    "name", ["SMITH JR^JOHN", "Smith^John^^Dr.^III", "Smith, Dr. John", "smith III^john^^^"]
)
def test_titles_and_suffixes_are_no_names(name):
    reading = only_reading(name)
    assert (reading.family, reading.givens) == ("smith", ("john",))


@pytest.mark.parametrize(("name", "family"), [("Ii^Naoto", "ii"), ("Van^Thi", "van")])
def test_a_title_or_particle_that_is_all_there_is_stays(name, family):
    assert only_reading(name).family == family


def test_compound_family_names_have_their_parts_as_variants():
    reading = only_reading("García-López^María")
    assert reading.families == ("garcialopez", "garcia", "lopez")


def test_particles_may_be_there_or_not():
    assert only_reading("de la Cruz^Ana").families == ("delacruz", "cruz")
    assert only_reading("al-Hassan^Omar").families == ("alhassan", "hassan")
    assert only_reading("O'Brien^Pat").families == ("obrien",)
    assert only_reading("O\u2019Brien^Pat").families == ("obrien",)


def test_a_given_name_that_looks_like_a_particle_is_one_after_the_others():
    assert only_reading("Nguyễn^Văn Hùng").givens == ("hung", "van")
    assert only_reading("Chu^Văn").givens == ("van",)
    assert only_reading("Berg^Jan^van der").givens == ("jan",)
    read = {(each.family, each.given) for each in readings("Văn Chu")}
    assert {("chu", "van"), ("van", "chu"), ("vanchu", "")} == read


def test_a_comma_divides_when_no_caret_does():
    assert readings("Smith, John") == readings("Smith^John")


@pytest.mark.parametrize("name", ["Maria de la Cruz", "MARIA DE LA CRUZ^^^^"])
def test_an_undivided_name_is_read_in_both_orders(name):
    first, last = readings(name)
    assert first.family == "maria"
    assert (last.families, last.givens) == (("delacruz", "cruz"), ("maria",))


def test_an_initial_is_left_out_unless_it_is_all_there_is():
    assert only_reading("Smith^John^J").givens == ("john",)
    assert only_reading("Smith^J").givens == ("j",)


def test_ideographs_are_never_romanised_in_whichever_group_they_stand():
    for name in ("Yamada^Tarou=山田^太郎=やまだ^たろう", "山田^太郎", "=山田^太郎", "山田 太郎"):
        kept = [one for one in readings(name) if one.script == "ideographic"]
        assert [one.family + one.given for one in kept] == ["山田太郎"]
        romanised = {one.family for one in readings(name) if one.script == "latin"}
        assert romanised <= {"yamada"}


def test_alphabetic_and_phonetic_groups_give_one_reading_when_they_agree():
    latin, ideographic = readings("ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう")
    assert (latin.family, latin.given) == ("yamada", "tarou")
    assert ideographic.script == "ideographic"


def test_an_undivided_korean_name_starts_with_the_family_name():
    assert readings("김희중") == readings("김^희중")


@pytest.mark.parametrize("name", ["", "^", "^^^^", "==", "  ", ",", "^^^Dr^", "=^", "\u0301"])
def test_a_name_without_letters_has_no_reading(name):
    assert readings(name) == ()


def charset_names():
    """Return file name -> Patient's Name of the character set files that ship with pydicom.

    In two of them it stands in an item of a sequence.
    """
    found = {}
    for path in sorted(get_charset_files("*.dcm")):
        elements = dcmread(path, force=True).iterall()
        names = [element.value for element in elements if element.keyword == "PatientName"]
        found[path.rpartition("/")[2]] = str(names[0])
    return found


CHARSET_NAMES = charset_names()
ROMANISED = {
    "chrFren.dcm": "Buc^Jerome",
    "chrGerm.dcm": "ANEAS^RUDIGER",
    "chrGreek.dcm": "Dionysios",
    "chrH31.dcm": "Yamada^Tarou",
    "chrH32.dcm": "Yamada^Tarou",
    "chrI2.dcm": "Hong^Gildong",
    "chrJapMulti.dcm": "Yamada^Tarou",
    "chrKoreanMulti.dcm": "Gim^Huijung",
    "chrSQEncoding.dcm": "Yamada^Tarou",
    "chrSQEncoding1.dcm": "Yamada^Tarou",
    "chrX1.dcm": "Wang^XiaoDong",
    "chrX2.dcm": "Wang^XiaoDong",
}


def forms(name):
    return {(one.script, one.family, one.given) for one in readings(name)}


def test_all_character_set_files_were_found():
    assert len(CHARSET_NAMES) == 17
    assert set(ROMANISED) <= set(CHARSET_NAMES)


@pytest.mark.parametrize("file", CHARSET_NAMES)
def test_every_group_of_a_character_set_file_reads_like_the_whole(file):
    name = CHARSET_NAMES[file]
    assert forms(name)
    for group in filter(None, name.split("=")):
        assert forms(group)
        assert forms(group) <= forms(name)


@pytest.mark.parametrize("file", ROMANISED)
def test_a_character_set_file_is_known_by_its_romanised_name(file):
    assert forms(ROMANISED[file]) & forms(CHARSET_NAMES[file])
