"""Sweeps in a process of their own: found again, stopped, killed, and gone on with."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.runs import fresh, pixels, pretend, recorded, until

from workbench.cli import commands as cli
from workbench.errors import Cancelled, SpecError
from workbench.runs import run as runs
from workbench.sweeps import detached, holding, session as sweeps
from workbench.sweeps.detached import Attached, attach, start


@pytest.fixture(autouse=True)
def no_process_is_left(home: Path) -> Iterator[None]:
    yield
    for run in runs.list_runs():
        worker = Attached(run).worker
        if worker and worker["pid"] != os.getpid():
            os.kill(worker["pid"], signal.SIGKILL)


@pytest.fixture
def slow(spec: dict[str, Any]) -> dict[str, Any]:
    """The 24 cells with enough refine steps that nobody is done before he is stopped."""
    return {**spec, "fixed": {**spec["fixed"], "refine_steps": 30}}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """The command line in this process: (exit status, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["workbench", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.fixture
def run(spec: dict[str, Any]) -> runs.Run:
    """A run nobody has worked on."""
    return sweeps.open_run(sweeps.plan(spec))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def lock(run: runs.Run) -> dict[str, Any]:
    return json.loads((run.path / "lock").read_text())


@pytest.mark.slow
def test_stopped_orphaned_killed_it_goes_on_and_ends_the_same(slow: dict, tmp_path: Path, command, monkeypatch) -> None:
    path = tmp_path / "slow.json"
    path.write_text(json.dumps(slow))

    # started by a command that is over: it works, and is found, looked at and stopped from here
    status, out, _ = command("sweep", str(path), "--detach", "--json")
    said = json.loads(out[out.index("{") :])
    assert status == 0 and said["started"] and said["worker"]["pid"] != os.getpid()
    attached = attach("latest")
    pid = said["worker"]["pid"]
    assert attached.run.id == said["run"] and attached.state == "running" and os.getsid(pid) == pid
    again = start(slow | {"name": "slow"})
    assert not again.started and again.run.path == attached.run.path and lock(again.run)["pid"] == pid
    assert f"process {pid}" in command("runs", "list")[1]
    until(lambda: len(attached.table()) >= 1)
    had, shown = len(attached.table()), attached.sheet(tile=64)
    assert attached.state == "running" and attached.progress["cells"]["total"] == 24
    assert len(attached.table()) < 24 and "24 cells" in attached.log()
    asked = time.monotonic()
    assert attached.stop(wait=60) == "stopped" and time.monotonic() - asked < 20
    until(lambda: not alive(pid))  # reaped, too: no zombie is left
    before = len(attached.table())
    assert 1 <= before < 24 and attached.worker is None
    assert attached.sheet(tile=64).tobytes() != shown.tobytes() or before == had
    with pytest.raises(Cancelled, match="goes on from there"):
        attached.wait()

    # started by a process that is killed with all its group: it goes on
    code = f"from workbench.sweeps import start; start({str(path)!r}); print('begun', flush=True); input()"
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout and parent.stdout.readline() == "begun\n"
    os.killpg(parent.pid, signal.SIGKILL)
    parent.wait()
    until(lambda: len(attached.table()) > before)
    assert attached.state == "running"

    # killed itself: seen, said, and gone on with
    orphan = lock(attached.run)["pid"]
    os.kill(orphan, signal.SIGKILL)
    until(lambda: attached.worker is None)
    assert attached.state == "died" and attached.progress["state"] == "died" and len(attached.table()) < 24
    with pytest.raises(detached.RunFailed, match=r"is gone .*log ends with.* run the same sweep again"):
        attached.wait()
    last = start(path)
    assert last.started and lock(last.run)["pid"] != orphan
    run = last.wait(timeout=120, progress=False)
    assert last.state == "finished" and (run.path / "contact_sheet.png").exists()
    assert recorded(run) == list(range(24))  # each once, over three processes
    want = pixels(run)
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path / "elsewhere"))
    inside = sweeps.sweep(slow, on=fresh(tmp_path / "elsewhere"), quiet=True)
    assert inside.path != run.path and pixels(inside) == want


@pytest.mark.slow
def test_a_process_that_cannot_begin_says_why(spec: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = subprocess.Popen

    def without_a_card(*words, **options):
        return usual(*words, **options, env={**os.environ, "WORKBENCH_DEVICE": "cuda:7"})

    monkeypatch.setattr(detached.subprocess, "Popen", without_a_card)
    with pytest.raises(detached.NotStarted, match="cuda:7"):
        start(spec)
    (run,) = runs.list_runs()
    assert Attached(run).state == "not started" and not (run.path / "lock").exists()


@pytest.mark.slow
def test_a_process_that_fails_says_why(spec: dict, tmp_path: Path, tiny_model: Path, command) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    for path in (broken / "base" / "unet").glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[:-1000])
    # a seed that is drawn: the process has to work on the very run that was opened here
    attached = start({**spec, "seeds": [-1], "fixed": {**spec["fixed"], "model": str(broken)}})
    with pytest.raises(detached.RunFailed, match=r"failed \(.*broken.*\); .* run the same sweep again"):
        attached.wait(timeout=120)
    assert attached.state == "failed" and len(runs.list_runs()) == 1
    status, _, err = command("runs", "watch", attached.run.id, "--quiet")
    assert status == 1 and "broken" in err and "Traceback" not in err


def test_a_wrong_spec_leaves_nothing_behind(spec: dict, home: Path) -> None:
    with pytest.raises(SpecError, match="unknown entry 'axis'"):
        start({**spec, "axis": {}})
    assert not (home / "runs").exists()


def test_states_of_a_run(run: runs.Run, command) -> None:
    attached = attach(run.id)
    assert attached.state == "not started" and attached.stop() == "not started" and attached.log() == ""
    assert not (run.path / "stop").exists()  # or the next process would be told to stop
    with pytest.raises(detached.RunFailed, match="nobody has worked on"):
        attached.wait()
    pretend(run, state="finished")
    assert attached.state == "finished" and attached.wait(progress=False) == run
    time.sleep(0.01)
    with holding.Holding(run, join=False):
        # loading the model: what status.json says is an older session's
        assert attached.state == "running" and attached.progress == {"state": "running"} and "loading" in repr(attached)
        assert attached.worker and attached.worker["pid"] == os.getpid()
        assert json.loads(command("runs", "list", "--json")[1])[0]["worker"]["pid"] == os.getpid()
        shown = json.loads(command("runs", "show", run.id, "--json")[1])
        assert shown["worker"]["pid"] == os.getpid() and shown["state"] == "running"
        time.sleep(0.01)
        pretend(run)
        assert "running, 0 of 24 cells, refine 3/5, 01:10 left" in repr(attached)
        assert '<progress value="0" max="24">' in attached._repr_html_()
        with pytest.raises(detached.StillRunning, match="runs stop"):
            attached.wait(timeout=0.1)
        assert not (run.path / "stop").exists()
        status, out, _ = command("runs", "stop", run.id)
        assert status == 0 and "is asked to stop" in out and (run.path / "stop").exists()
        assert "asked to stop" in repr(attached)
    assert attached.state == "died"
    assert json.loads(command("runs", "list", "--json")[1])[0]["worker"] is None
    for state in ("stopped", "failed"):
        pretend(run, state=state)
        assert attached.state == attached.progress["state"] == state
    assert "failed" in repr(attached) and "nobody works on it" in command("runs", "stop", run.id)[1]


def test_interrupting_the_wait_leaves_the_sweep_running(run: runs.Run, command, monkeypatch) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    with holding.Holding(run, join=False):
        pretend(run)
        monkeypatch.setattr(detached.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt, match=r"goes on in its own process; look again with attach\("):
            attach(run).wait()
        status, _, err = command("runs", "watch", run.id)
        assert status == 1 and "goes on in its own process" in err
        assert not (run.path / "stop").exists() and attach(run).state == "running"


@pytest.mark.parametrize(
    ("script", "patience", "said"),
    [
        ("exec sleep 60", 0.5, "did not begin within 0 s and was ended"),
        ("exit 3", 60, "ended with status 3 before it began"),
        ("echo 'workbench: no room for a mouse.'; exit 1", 60, "^no room for a mouse.$"),
    ],
)
def test_a_process_that_never_holds_its_run(
    spec: dict, tmp_path: Path, monkeypatch, script: str, patience: float, said: str
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(detached.sys, "executable", str(python))
    monkeypatch.setattr(detached, "PATIENCE", patience)
    with pytest.raises(detached.NotStarted, match=said):
        start(spec)
    assert not alive(int((tmp_path / "pid").read_text()))


def test_the_reason_is_waited_for(run: runs.Run) -> None:
    """A process lets go of its run before it prints why."""
    words = f"sleep 0.5; echo 'workbench: no room for a mouse.' >> {run.path / 'log.txt'}"
    process = subprocess.Popen(["sh", "-c", words])
    threading.Thread(target=process.wait).start()
    pretend(run, state="failed", pid=process.pid)
    with pytest.raises(detached.RunFailed, match=r"failed \(no room for a mouse\); what was finished is kept"):
        attach(run).wait(progress=False)


def test_a_foreground_sweep_is_found(run: runs.Run, spec: dict, monkeypatch, capsys) -> None:
    monkeypatch.setattr(detached.subprocess, "Popen", None)  # nothing may be started
    with holding.Holding(run, join=False):
        attached = start(spec)
        assert attached.run == run and not attached.started
        assert "works on" in capsys.readouterr().err


def test_the_log_reads_like_a_terminal(run: runs.Run) -> None:
    (run.path / "log.txt").write_bytes(
        b"--- first\nold\n--- second\n\r 10%|#\r 90%|####\rdone\xff\nworkbench: no room.\n"
    )
    assert attach(run).log() == "--- first\nold\n--- second\ndone\ufffd\nworkbench: no room."
    assert attach(run).log(lines=1) == "workbench: no room."
    assert detached._last_words(run) == "no room."


def test_settings_of_numpy_can_be_sent(spec: dict, monkeypatch) -> None:
    import numpy as np

    axes = {"steps": list(np.arange(4, 6)), "strength": list(np.linspace(0.3, 0.5, 2, dtype=np.float32))}
    wanted = {**spec, "axes": axes, "fixed": {n: v for n, v in spec["fixed"].items() if n != "steps"}}
    sent = []
    monkeypatch.setattr(
        detached.subprocess, "Popen", lambda words, **_: sent.append(Path(words[-1]).read_text()) or sys.exit()
    )
    with pytest.raises(SystemExit):
        start(wanted)
    assert sweeps.plan(json.loads(sent[0])).resolved == sweeps.plan(wanted).resolved
