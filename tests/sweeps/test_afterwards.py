"""What follows a sweep on a machine that costs by the hour, however the sweep ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from support.runs import scored, until

from workbench.cli import commands as cli
from workbench.errors import Cancelled, CannotWrite, CommandFailed, DiskFull
from workbench.runs.run import Run
from workbench.sweeps import detached
from workbench.sweeps.afterwards import OUTPUT, Afterwards

TELL = 'echo "$WORKBENCH_RUN $WORKBENCH_STATUS"'


@pytest.fixture
def run(home: Path) -> Run:
    return scored(seeds=1)


def told(run: Run) -> str:
    return (run.path / OUTPUT).read_text().strip() if (run.path / OUTPUT).exists() else ""


def ended_by(error: BaseException | None, run: Run, command: str = TELL) -> None:
    with Afterwards(command) as after:
        after.begun(run)
        if error is not None:
            raise error


@pytest.mark.parametrize(("error", "status"), [(None, "done"), (DiskFull("no room."), "failed"), (ValueError(), "failed"),
                                               (Cancelled("enough."), "stopped")])  # fmt: skip
def test_the_command_is_told_how_the_sweep_ended(run: Run, error: BaseException | None, status: str, capsys) -> None:
    if error is None:
        ended_by(None, run)
    else:
        with pytest.raises(type(error)):
            ended_by(error, run)
    assert told(run) == f"{run.id} {status}"
    err = capsys.readouterr().err
    assert f"now: {TELL}\n{run.id} {status}\n" in err and "ended with status 0" in err


def test_ctrl_c_calls_it_off(run: Run, capsys) -> None:
    with pytest.raises(KeyboardInterrupt):
        ended_by(KeyboardInterrupt(), run)
    assert told(run) == "" and "you are here" in capsys.readouterr().err


def test_a_sweep_that_never_began_is_followed_by_nothing(run: Run, tmp_path: Path, capsys) -> None:
    with pytest.raises(DiskFull), Afterwards(f"touch {tmp_path / 'off'}"):
        raise DiskFull("no room.")
    assert not (tmp_path / "off").exists() and "did not begin" in capsys.readouterr().err


def test_a_command_that_fails_is_no_secret(run: Run, capsys) -> None:
    with pytest.raises(CommandFailed, match=r"the sweep is done, but .* status 7"):
        ended_by(None, run, "echo no such box; exit 7")
    assert "no such box" in capsys.readouterr().err
    with pytest.raises(DiskFull):  # the sweep's own error comes first
        ended_by(DiskFull("no room."), run, "exit 7")
    assert "status 7" in capsys.readouterr().err


def test_a_full_disk_keeps_no_machine_on(run: Run, tmp_path: Path) -> None:
    (run.path / OUTPUT).mkdir()  # where nothing can be written
    ended_by(None, run, f"touch {tmp_path / 'off'}")
    assert (tmp_path / "off").exists()


WAITING = """
import sys, time
from pathlib import Path
from workbench.runs import Run
from workbench.sweeps import Afterwards
with Afterwards(sys.argv[2]) as after:
    after.begun(Run(Path(sys.argv[1])))
    print("begun", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def waiting(run: Run, seconds: float = 60) -> subprocess.Popen[bytes]:
    """A process whose sweep has begun."""
    words = [sys.executable, "-c", WAITING, str(run.path), TELL, str(seconds)]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
    assert process.stdout and process.stdout.readline() == b"begun\n"
    return process


@pytest.mark.parametrize("left", [0, 1])
def test_a_killed_sweep_is_followed_too_and_helpers_may_have_finished_it(run: Run, left: int) -> None:
    if left:
        about = run.journal.read_text().splitlines(keepends=True)
        run.journal.write_text("".join(about[:-1]))
    process = waiting(run)
    os.killpg(process.pid, signal.SIGKILL)
    until(lambda: told(run))
    assert told(run) == f"{run.id} {'failed' if left else 'done'}"


def test_it_waits_for_the_others_that_work_on_the_run(run: Run) -> None:
    import fcntl

    process = waiting(run)
    with open(run.path / "workers", "a+") as helper:
        fcntl.flock(helper, fcntl.LOCK_SH)
        process.kill()
        time.sleep(0.6)
        assert told(run) == ""
    until(lambda: told(run))


def test_a_lost_connection_ends_neither(run: Run) -> None:
    process = waiting(run, 0.5)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0 and told(run) == f"{run.id} done"
    assert "the sweep is done; now:" in (run.path / "log.txt").read_text()


@pytest.mark.parametrize("words", [["--plan", "--then", "true"], ["--then", " "]])
def test_wrong_usage_is_refused(words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    (tmp_path / "s.toml").write_text('preset = "embedded"\n')
    monkeypatch.setattr(sys, "argv", ["workbench", "sweep", str(tmp_path / "s.toml"), *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2 and "--then names a command" in capsys.readouterr().err


def test_a_detached_sweep_takes_the_command_with_it(spec: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def refused(words: list[str], **_: Any) -> None:
        asked.append(words)
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(detached.subprocess, "Popen", refused)
    with pytest.raises(CannotWrite):
        detached.start({**spec, "axes": {}, "prompts": ["a face"]}, then="poweroff")
    assert asked[0][-2:] == ["--then", "poweroff"]


def test_a_sweep_under_way_takes_no_command(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> None:
    (tmp_path / "s.toml").write_text('preset = "embedded"\n')
    monkeypatch.setattr("workbench.sweeps.start", lambda *words, **more: detached.Attached(run))
    monkeypatch.setattr(
        sys, "argv", ["workbench", "sweep", str(tmp_path / "s.toml"), "-q", "--detach", "--then", "poweroff"]
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and "--then was not taken" in capsys.readouterr().err
