"""The page's files, without a browser: tests/browser/test_server_page.py uses it in one."""

import re

import pytest
from fastapi.testclient import TestClient

from workbench.presets import Preset
from workbench.serve import Access, create_app
from workbench.serve.pages import OURS, SWAGGER, TYPES
from workbench.settings import Settings


@pytest.fixture
def client() -> TestClient:
    preset = Preset("p", Settings(model="nowhere", restorer="none"), allow=("prompt", "seed", "steps"))
    return TestClient(create_app(preset, access=Access(host="testserver")))


@pytest.mark.parametrize("address", ["/", "/docs"])
def test_all_that_a_page_refers_to_comes_from_this_server(client: TestClient, address: str) -> None:
    html = client.get(address).text
    to_do, seen = set(re.findall(r'(?:src|href)="(/[^"]+)"', html)) - {"/docs"}, set()
    assert any(each.endswith(".js") for each in to_do) and any(each.endswith(".css") for each in to_do)
    assert not re.search(r'(src|href)="(https?:)?//', html)
    while to_do:
        each = to_do.pop()
        seen.add(each)
        answer = client.get(each)
        assert answer.status_code == 200, each
        assert answer.headers["content-type"].partition(";")[0] == TYPES[each[each.rindex(".") :]]
        if each.startswith("/page/"):
            assert not re.search(r"https?://(?!:TOKEN@|www\.w3\.org/2000/svg)", answer.text), each
            to_do |= {f"/page/{name}" for name in re.findall(r' from "\./([\w.]+)"', answer.text)} - seen


def test_no_script_is_in_line_as_the_policy_would_keep_it_from_running(client: TestClient) -> None:
    for address in ("/", "/docs"):
        answer = client.get(address)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*\ssrc=)|\son\w+=|javascript:", answer.text)


@pytest.mark.parametrize("path", ["/page/app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/docs/index.html"])
def test_no_other_file_is_given_away(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404 and "def " not in answer.text


def test_the_preset_says_all_that_the_page_needs(client: TestClient) -> None:
    preset = client.get("/preset").json()
    assert preset["withdrawn"] == "" and list(preset["stages"]) == ["base", "refine"]
    assert set(preset["schema"]) >= set(preset["allow"]) == {"prompt", "seed", "steps"}


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("/preset?prest=p", "there is no 'prest'; did you mean 'preset'"),
        ("/preset?zzz=1", "there is no 'zzz'; there is preset."),
        ("/preset?preset=p&preset=p", "given twice"),
        ("/sdapi/v1/progress?skip_current=true", "did you mean 'skip_current_image'"),
        ("/health?verbose=1", "takes no query; leave 'verbose' out"),
        ("/metrics?x", "takes no query"),
        ("/?x=1", "takes no query"),
        ("/openapi.json?x=1", "takes no query"),
    ],
)
def test_a_query_that_an_address_does_not_take_is_refused(client: TestClient, address: str, words: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 422 and words in answer.json()["error"]


def test_what_there_is_not_is_not_there_with_a_query_either(client: TestClient) -> None:
    assert client.get("/nothing?x=1").status_code == client.get("/sdapi/v1/img2img?x=1").status_code == 404
    assert client.get("/preset?preset=p").status_code == client.get("/openapi.json").status_code == 200


def test_the_files_are_part_of_the_package_and_no_other_is() -> None:
    assert set(OURS) >= {"index.html", "page.css", "page.js", "docs.html", "docs.js"}
    assert {path.suffix for path in OURS.values()} <= set(TYPES)
    assert all(path.is_file() for path in SWAGGER.values())
