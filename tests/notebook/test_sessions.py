import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workbench.errors import NoAxis, TooManyPins, UsageError
from workbench.notebook.tuning_session import KEPT, MOST_PINS, TuningSession
from workbench.settings import Settings
from workbench.sweeps.planning import plan

START = Settings(model="embedded", width=256, height=256, prompt='Grace "Amazing" Hopper\nat \U0001f600')


def add(session: TuningSession, settings: Settings = START, sharpness: float | None = 40.0) -> int:
    return session.add(settings, b"jpeg", status="ok", sharpness=sharpness, face=(0.1, 0.2, 0.3, 0.4)).number


def test_everything_is_found_again(home: Path) -> None:
    session = TuningSession("mine")
    assert session.begin(START) == START and session.variants() == []
    first = add(session)
    second = add(session, START.replace(weight=0.9), None)
    session.pin(second)
    session.add_axis("weight", START)
    session.save(START.replace(weight=0.9))
    again = TuningSession("mine")
    assert [v.number for v in again.variants()] == [first, second]
    assert again.variants() == session.variants()
    assert again.pins == [second] and again.axes == {"weight": [0.6, 0.9]}
    assert again.begin(START) == START.replace(weight=0.9)
    assert add(again, START.replace(weight=0.1)) == 3
    assert TuningSession("other").variants() == []


def test_other_parameters_begin_anew() -> None:
    session = TuningSession()
    session.begin(START)
    session.save(START.replace(strength=0.5))
    other = START.replace(seed=9)
    assert TuningSession().begin(other) == other


def test_a_picture_made_again_stays_in_its_place(home: Path) -> None:
    """It moved to the end, so that the filmstrip re-ordered itself under the hand that pressed a thumbnail."""
    session = TuningSession()
    first, second = add(session), add(session, START.replace(weight=0.9))
    session.pin(first)
    assert add(session) == first
    assert len((session.path / "history.jsonl").read_text().splitlines()) == 2  # nothing new to write
    assert add(session, sharpness=50.0) == first  # measured anew
    for each in (session, TuningSession()):
        assert [(v.number, v.sharpness) for v in each.variants()] == [(first, 50.0), (second, 40.0)]
    assert session.pins == [first] and len(list((session.path / "pictures").iterdir())) == 2


def test_a_picture_is_removed_and_brought_back(home: Path) -> None:
    session = TuningSession()
    numbers = [add(session, START.replace(seed=n)) for n in range(3)]
    session.pin(numbers[1])
    session.star(numbers[1])
    variant = session.variant(numbers[1])
    jpeg = session.remove(numbers[1])
    assert [v.number for v in session.variants()] == [1, 3] and session.pins == session.favourites == []
    assert [v.number for v in TuningSession().variants()] == [1, 3]
    session.restore(variant, jpeg)
    assert [v.number for v in session.variants()] == [v.number for v in TuningSession().variants()] == [1, 2, 3]
    with pytest.raises(UsageError, match="picture 9 is no longer"):
        session.remove(9)


def test_what_was_brought_back_keeps_its_pin_whatever_another_kernel_does_next(home: Path) -> None:
    session, other = TuningSession(), TuningSession()
    numbers = [add(session, START.replace(seed=n)) for n in range(2)]
    variant, jpeg = session.variant(numbers[0]), session.remove(numbers[0])
    assert [v.number for v in other.variants()] == [2]
    session.restore(variant, jpeg)
    session.pin(numbers[0])
    other.star(numbers[1])
    assert [v.number for v in other.variants()] == [1, 2]
    assert other.pins == TuningSession().pins == [1]


def test_favourites_are_kept_and_never_leave_by_themselves() -> None:
    session = TuningSession()
    first = add(session, START.replace(seed=1000))
    session.star(first)
    session.save()
    assert TuningSession().favourites == [first]
    for n in range(KEPT + 3):
        add(session, START.replace(seed=n))
    assert session.variants()[0].number == first and len(session.variants()) == KEPT
    session.star(first)
    add(session, START.replace(seed=1001))
    assert session.favourites == [] and session.variants()[0].number > first


def test_the_oldest_leave_but_the_pinned_stay() -> None:
    session = TuningSession()
    numbers = [add(session, START.replace(seed=n)) for n in range(KEPT + 3)]
    assert [v.number for v in session.variants()] == numbers[3:]
    session.pin(numbers[3])
    add(session, START.replace(seed=1000))
    assert [v.number for v in session.variants()][:2] == [numbers[3], numbers[5]]
    with pytest.raises(UsageError, match=f"picture {numbers[0]} is no longer"):
        session.variant(numbers[0])


def test_pins_are_four_at_most() -> None:
    session = TuningSession()
    numbers = [add(session, START.replace(seed=n)) for n in range(MOST_PINS + 1)]
    for number in numbers[:MOST_PINS]:
        session.pin(number)
    session.pin(numbers[0])  # is pinned already
    with pytest.raises(TooManyPins, match="take one out"):
        session.pin(numbers[-1])
    session.unpin(numbers[1])
    session.pin(numbers[-1])
    assert session.pins == [numbers[0], *numbers[2:]]


def test_an_axis_has_the_values_tried_or_a_step_to_either_side() -> None:
    session = TuningSession()
    assert session.add_axis("strength", START) == [0.3, 0.35, 0.4]
    assert session.add_axis("weight", START.replace(weight=1.0)) == [0.95, 1.0]
    assert session.add_axis("steps", START) == [34, 35, 36]
    add(session, START.replace(strength=0.2))
    add(session, START.replace(strength=0.6))
    assert session.add_axis("strength", START) == [0.2, 0.35, 0.6]
    for name in ("seed", "sampler", "nonsense"):
        with pytest.raises(NoAxis, match=name):
            session.add_axis(name, START)
    add(session, START.replace(sampler="Euler"))
    assert session.add_axis("sampler", START) == ["DPM++ 2M Karras", "Euler"]


def test_the_spec_it_writes_is_the_sweep_that_was_meant() -> None:
    session = TuningSession()
    now = START.replace(weight=0.8, seed=5, sampler="Euler")
    session.add_axis("strength", now)
    path = session.write_spec("recommended", Settings(), now)
    cells = plan(path).cells
    assert [cell.settings for cell in cells] == [
        now.replace(seed=seed, strength=strength) for seed in (5, 6, 7) for strength in (0.3, 0.35, 0.4)
    ]
    assert "weight" in tomllib.loads(path.read_text())["fixed"]
    session.clear_axes()
    assert not path.exists() and session.axes == {}


def test_what_is_damaged_costs_only_itself(home: Path) -> None:
    session = TuningSession()
    first, second = add(session), add(session, START.replace(seed=1))
    session.save(START)
    (session.path / "pictures" / f"{first:05d}.jpg").unlink()
    with open(session.path / "history.jsonl", "a") as file:
        file.write('{"number": 3, "sta')
    (session.path / "state.json").write_text("{")
    again = TuningSession()
    assert [v.number for v in again.variants()] == [second]
    assert again.settings is None


def test_the_table_shows_what_varies() -> None:
    session = TuningSession()
    add(session)
    add(session, START.replace(weight=0.9), None)
    table = session.table()
    assert list(table.columns) == ["sharpness", "flags", "weight"]
    assert list(table.index) == [2, 1] and table["weight"].tolist() == [0.9, 0.6]


@pytest.mark.parametrize("name", ["", "../up", "A", "a/b"])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match="session's name"):
        TuningSession(name)


def test_two_kernels_keep_each_others_pictures(home: Path) -> None:
    """Each counted for itself, so that the second one's first picture was written over the first one's."""
    one, other = TuningSession(), TuningSession()
    numbers = [add(one, START.replace(seed=1)), add(other, START.replace(seed=2)), add(one, START.replace(seed=3))]
    assert numbers == [1, 2, 3]
    for session in (one, other, TuningSession()):
        assert [(v.number, v.settings.seed) for v in session.variants()] == [(1, 1), (2, 2), (3, 3)]
    assert other.variant(3).picture.read_bytes() == b"jpeg"
    one.variant(2).picture.unlink()  # the other has let go of it
    assert [v.number for v in one.variants()] == [1, 3]


OTHER_KERNEL = """
import sys, time
from pathlib import Path
from workbench.notebook.tuning_session import TuningSession
from workbench.settings import Settings

first, session = int(sys.argv[1]), TuningSession()
for n in range(first, first + 12):
    made = session.add(Settings(model="embedded", seed=n), str(n).encode(), status="ok", sharpness=float(n))
    if n < first + 2:
        session.pin(made.number)
session.add_axis("strength" if first else "weight", Settings(model="embedded", strength=0.3, weight=0.3))
"""


def test_two_processes_lose_no_picture_no_pin_and_no_axis(home: Path) -> None:
    kernels = [subprocess.Popen([sys.executable, "-c", OTHER_KERNEL, str(first)]) for first in (0, 100)]
    assert [kernel.wait(120) for kernel in kernels] == [0, 0]
    session = TuningSession()
    made = {v.settings.seed: v for v in session.variants()}
    assert set(made) == {*range(12), *range(100, 112)}
    assert all(v.picture.read_bytes() == str(seed).encode() and v.sharpness == seed for seed, v in made.items())
    assert {session.variant(n).settings.seed for n in session.pins} == {0, 1, 100, 101}
    assert set(session.axes) == {"strength", "weight"}
    session.add(START, b"", status="ok", sharpness=None)
    assert len(session.pins) == 4


def test_a_pin_of_another_kernel_keeps_its_picture() -> None:
    one, other = TuningSession(), TuningSession()
    first = add(one)
    one.pin(first)
    for n in range(KEPT + 2):
        add(other, START.replace(seed=n + 1))
    assert first in [v.number for v in one.variants()] and one.variant(first).picture.exists()
    again = add(other)  # the same settings: the pin goes with them
    one.save()
    assert one.pins == [again] == other.pins


def test_many_threads_of_two_kernels_number_each_picture_once(home: Path) -> None:
    sessions = [TuningSession(), TuningSession()]
    with ThreadPoolExecutor(8) as pool:
        numbers = list(pool.map(lambda n: add(sessions[n % 2], START.replace(seed=n)), range(40)))
    assert sorted(numbers) == list(range(1, 41))
    assert {v.settings.seed for v in TuningSession().variants()} == set(range(40))


@pytest.mark.parametrize(
    "shape", ["", "null", "0", '"text"', "[]", "{}", "[1]", "[" * 100_000, '{"number": "1"}', "\xff"]
)
@pytest.mark.parametrize("file", ["state.json", "history.jsonl"])
def test_a_file_of_another_shape_costs_no_picture(home: Path, shape: str, file: str) -> None:
    session = TuningSession()
    first = add(session)
    session.save(START)
    with open(session.path / file, "w" if file == "state.json" else "a", encoding="latin-1") as out:
        out.write(shape + "\n")
    again = TuningSession()
    assert [v.number for v in again.variants()] == [first] and again.begin(START) == START
    assert add(again, START.replace(seed=5)) == first + 1
