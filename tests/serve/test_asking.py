"""What a request may ask for."""

from __future__ import annotations

import json

import pytest

from workbench.errors import BadRequest, SettingsError
from workbench.presets import ALLOWED, Preset
from workbench.serve.asking import asked, pictures, read_request, schema_of
from workbench.settings import Settings

FORM, JSON = "application/x-www-form-urlencoded", "application/json"


@pytest.mark.parametrize(
    ("query", "body", "kind"),
    [
        ("prompt=a+red+fox&seed=5", b"", ""),
        ("", b"prompt=a%20red%20fox&seed=5", FORM),
        ("", b'{"prompt": "a red fox", "seed": 5}', JSON),
        ("", b'{"prompt": "a red fox", "seed": 5}', "application/json; charset=utf-8"),
        ("", b'{"prompt": "a red fox", "seed": 5}', ""),
        ("seed=5", b"prompt=a%20red%20fox", FORM),
    ],
)
def test_query_json_and_form_say_the_same(query: str, body: bytes, kind: str) -> None:
    found = asked(read_request(query, body, kind), ALLOWED)
    assert (found.values, found.n, found.preset) == ({"prompt": "a red fox", "seed": 5}, 1, "")


def test_the_seed_is_42_where_none_is_given_and_more_pictures_have_the_next_ones() -> None:
    one = asked({"prompt": "a face"}, ALLOWED)
    assert one.values["seed"] == 42
    made = pictures(Preset("p", Settings(width=64, height=64)), asked({"prompt": "a face", "n": 3}, ALLOWED))
    assert [s.seed for s in made] == [42, 43, 44]
    assert {s.prompt for s in made} == {"a face"}


@pytest.mark.parametrize(
    ("query", "body", "kind", "words"),
    [
        ("prompt=a&prompt=b", b"", "", "'prompt' is given twice"),
        ("prompt=a", b'{"prompt": "a"}', JSON, "'prompt' is given twice"),
        ("", b'{"prompt": "a", "prompt": "b"}', JSON, "'prompt' is given twice"),
        ("", b"{", JSON, "the body is no JSON;"),
        ("", b"[" * 100_000, JSON, "the body is no JSON;"),
        ("", b"[1]", JSON, "is no JSON object"),
        ("", b"\xff", JSON, "not UTF-8"),
        ("prompt=%ff", b"", "", "cannot be read"),
        ("&".join(f"a{i}=1" for i in range(200)), b"", "", "cannot be read"),
        ("", json.dumps({f"k{i}": 1 for i in range(20_000)}).encode(), JSON, "that has 20000 names"),
        ("", b"<xml/>", "text/xml", "a body of type 'text/xml' is not read"),
    ],
)
def test_what_cannot_be_read_is_refused(query: str, body: bytes, kind: str, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        read_request(query, body, kind)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, "prompt is missing"),
        ({"prompt": "  "}, "prompt is blank"),
        ({"promt": "x"}, "there is no 'promt'; did you mean 'prompt'"),
        (
            {"prompt": "x", "width": 4096},
            "'width' is not open to requests; the preset opens prompt, negative_prompt, seed",
        ),
        ({"prompt": "x", "n": 0}, "from 1 to 4"),
        ({"prompt": "x", "n": True}, "from 1 to 4"),
        ({"prompt": "x", "n": "2"}, "from 1 to 4"),
        ({"prompt": "x", "preset": 3}, "preset is no name"),
        ({"prompt": "x", "preset": "\ud800"}, "preset is no name"),
        ({"prompt": "cat " * 2000}, "has 8000 characters; it may have 4000"),
        ({"prompt": "x <lora:skin:1>"}, "<lora:...> in prompt is not open to requests"),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest(given: dict[str, object], words: str) -> None:
    with pytest.raises(BadRequest, match=words.replace("...", r"\.\.\.")):
        asked(given, ALLOWED)


WRONG = ({"prompt": ["x"]}, {"prompt": None}, {"prompt": 3}, {"prompt": "x\0"})
WRONG_SEEDS = ("5", 1.5, -2, 2**53, True)


@pytest.mark.parametrize("given", [*WRONG, *({"prompt": "x", "seed": seed} for seed in WRONG_SEEDS)])
def test_values_of_json_have_their_types(given: dict[str, object]) -> None:
    with pytest.raises((BadRequest, SettingsError)):
        pictures(Preset("p", Settings(width=64, height=64)), asked(given, ALLOWED))


def test_files_are_named_not_pointed_at() -> None:
    """With paths, anybody could try which files the machine has."""
    allow = (*ALLOWED, "loras", "upscaler")
    assert asked({"prompt": "x <lora:skin:1>", "loras": "skin:1"}, allow).values["loras"] == "skin:1"
    for given in (
        {"prompt": "x <lora:/etc/passwd:1>"}, {"prompt": "x <lora:../x:1>"}, {"prompt": "x", "loras": "/etc/x:1"},
        {"prompt": "x", "upscaler": "~/x.pth"}, {"prompt": "x", "upscaler": "./x.pth"},
    ):  # fmt: skip
        with pytest.raises(BadRequest, match="no path"):
            asked(given, allow)


def test_the_schema_is_made_of_the_one_list_of_settings() -> None:
    schema = schema_of((*ALLOWED, "strength"))
    assert set(schema) == {*ALLOWED, "strength", "n", "preset"}
    assert schema["strength"]["maximum"] == 1
    assert schema["seed"]["default"] == 42
    assert "default" not in schema["prompt"]
    json.dumps(schema)
