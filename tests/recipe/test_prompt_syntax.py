"""A1111's prompt syntax: what it means, and what is refused by name."""

from __future__ import annotations

import pytest

from workbench.errors import SettingsError
from workbench.recipe.prompt_syntax import parse_prompt
from workbench.settings import Settings

UP, DOWN = 1.1, 1 / 1.1

MEANT = {  # by A1111's own documentation and tests of its parser
    "normal text": [("normal text", 1.0)],
    "an (important) word": [("an ", 1.0), ("important", UP), (" word", 1.0)],
    "(unbalanced": [("unbalanced", UP)],
    "\\(literal\\]": [("(literal]", 1.0)],
    "(unnecessary)(parens)": [("unnecessaryparens", UP)],
    "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).": [
        ("a ", 1.0),
        ("house", 1.3 * UP * UP),
        (" ", UP),
        ("on", UP * DOWN),
        (" a ", UP),
        ("hill", 0.5 * UP),
        (", sun, ", UP),
        ("sky", UP**4),
        (".", UP),
    ],
    "[[dull]]": [("dull", DOWN * DOWN)],
    "(a: 1.25 )": [("a", 1.25)],
    "(of:zero:0)": [("of:zero", 0.0)],
    "(less:-.5)": [("less", -0.5)],
    "time 10:30, a:b": [("time 10:30, a:b", 1.0)],
    "x:1.2) y": [("x:1.2) y", 1.0)],
    "a smile :)": [("a smile :)", 1.0)],
    "back\\slash": [("back\\slash", 1.0)],
    "[a:b]": [("a:b", DOWN)],
    "(a|b)": [("a|b", UP)],
    "band and BAND": [("band and BAND", 1.0)],
    "{one}": [("{one}", 1.0)],
    "snake_case __init__ly": [("snake_case __init__ly", 1.0)],
    "I <3 it": [("I <3 it", 1.0)],
    "": [],
}


@pytest.mark.parametrize("text", MEANT)
def test_emphasis(text: str) -> None:
    (section,) = parse_prompt(text).sections
    assert [part.text for part in section] == [words for words, _ in MEANT[text]]
    assert [part.weight for part in section] == pytest.approx([weight for _, weight in MEANT[text]])


@pytest.mark.parametrize("text", [*MEANT, "a BREAK b", "<lora:x:1>", "[a:b:.5]", "a AND b"])
def test_plain_is_text(text: str) -> None:
    assert parse_prompt(text, "plain").sections == (((text, 1.0),),)


def test_break_divides() -> None:
    def words(text: str) -> list[list[tuple[str, float]]]:
        return [[(part.text, part.weight) for part in section] for section in parse_prompt(text).sections]

    assert words("a BREAK b") == [[("a", 1.0)], [("b", 1.0)]]
    assert words("(a BREAK b:1.5), c") == [[("a", 1.5)], [("b", 1.5), (", c", 1.0)]]
    assert words("a BREAK BREAK b") == [[("a", 1.0)], [], [("b", 1.0)]]
    assert words("BREAKING news") == [[("BREAKING news", 1.0)]]


def test_lora_tags_are_taken_out() -> None:
    parsed = parse_prompt("a face <lora:skin:0.4>, <lora:eyes detail>,<lyco:x:-1>(old:1.2)")
    assert [(lora.name, lora.weight) for lora in parsed.loras] == [("skin", 0.4), ("eyes detail", 1.0), ("x", -1.0)]
    assert [part.text for part in parsed.sections[0]] == ["a face , ,", "old"]


def test_what_is_never_closed_is_said() -> None:
    assert parse_prompt("a ((face").notes == ("prompt: a '(' is never closed, so its weight reaches to the end",)
    assert parse_prompt("a (face) :(").notes and not parse_prompt("a (face) \\(").notes


REFUSED = {
    "[day:night:.5]": "prompt editing, [from:to:when],",
    "a [night:0.3]": "prompt editing",
    "[a (b:1.2)::12]": "prompt editing",
    "[cow|horse] in a field": "alternating words, [a|b],",
    "[(a:1.1)|b]": "alternating words",
    "a cat AND a dog": "AND, which blends",
    "a {red|blue} hat": "Dynamic Prompts",
    "a __colour__ hat": "wildcard",
    "a <hypernet:x:1>": "'hypernet' is none",
    "<segment:face,0.3,0.5>": "'segment' is none",
    "<lora:x:1:0.5>": "one weight",
    "<lora::1>": "<lora:name:weight>",
    "<lora:/etc/x:1>": "a path goes into the setting loras",
    "<lora:some/dir/x:1>": "a path goes into the setting loras",
    "a <lora:skin:0.4": "no whole tag",
    "a < lora:skin:0.4>": "no whole tag",
    "<lora:a/../../x:1>": "a path goes into the setting loras",
    "<lora:x:strong>": "must be a number from -10 to 10",
    "<lora:x:1><lora:x:0.5>": "two tags",
    "(word:1.2.3)": "must be a number",
    "(word:99)": "from -10 to 10",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_supported_is_refused_by_name(text: str) -> None:
    with pytest.raises(SettingsError) as error:
        Settings(prompt=text)
    assert REFUSED[text] in str(error.value) and "prompt" in str(error.value)
    assert Settings(prompt=text, prompt_syntax="plain").prompt == text
    where = "hires_prompt"
    with pytest.raises(SettingsError, match=where):
        Settings(hires_prompt=text)
    assert Settings(hires_prompt=text, hires=False)  # nothing reads it


def test_a_tag_in_the_negative_prompt_is_refused() -> None:
    with pytest.raises(SettingsError, match="negative_prompt has a tag for the LoRA 'x'"):
        Settings(negative_prompt="blurry <lora:x:1>")


def test_a_lora_is_named_once() -> None:
    with pytest.raises(SettingsError, match="'skin' is in loras and in a tag of the prompt"):
        Settings(prompt="<lora:skin:0.4>", loras="a/skin.safetensors:0.8")
    with pytest.raises(SettingsError, match="names 'skin' twice"):
        Settings(loras="a/skin:0.4, b/skin.safetensors:1")
    for odd in (":1", "a:b:c", "a,,b", "a:nan", "a:1e9"):
        with pytest.raises(SettingsError, match="loras"):
            Settings(loras=odd)
