"""What the playground begins with."""

from portal.playground.rules import PRESETS, preset_of


def test_presets_are_found_by_their_names_and_end_where_the_model_goes_on() -> None:
    assert [preset_of(preset.key) for preset in PRESETS] == list(PRESETS)
    assert preset_of("") is preset_of("absent") is None
    assert all(preset.prompt.rstrip(" ") == preset.prompt for preset in PRESETS)
