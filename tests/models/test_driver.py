"""The NVIDIA cards of a machine, by a fake nvidia-smi: no test here has ever seen a card."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from support.nvidia import H100, fake_nvidia_smi, fake_program

from workbench.errors import CardUnusable, UsageError
from workbench.models import card_problem, cards, driver, hardware
from workbench.models.driver import Card, DriverReport

V100 = "Tesla V100-SXM2-16GB, {driver}, 16384, 7.0"
RTX_5090 = "NVIDIA GeForce RTX 5090, {driver}, 32607, 12.0"


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine of its own for each test: without a card, until a test puts one there."""
    caches = driver.driver_report, hardware._unseen, hardware._unfit
    for cached in caches:
        cached.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in ("WORKBENCH_DEVICE", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.delenv(name, raising=False)
    for name in ("PROC", "PCI", "DEVICES"):
        monkeypatch.setattr(driver, name, tmp_path / name)
    monkeypatch.setattr(hardware, "gpus", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    yield tmp_path
    for cached in caches:
        cached.cache_clear()


def on_the_bus(machine: Path) -> None:
    """A card of NVIDIA's, whatever its driver says."""
    (machine / "PCI" / "0000:01:00.0").mkdir(parents=True)
    (machine / "PCI" / "0000:01:00.0" / "vendor").write_text("0x10de\n")
    (machine / "PCI" / "0000:01:00.0" / "class").write_text("0x030200\n")


def test_without_a_card_the_cpu_is_taken_as_ever(machine: Path) -> None:
    assert cards() == [] and card_problem() is None
    assert hardware.device() == torch.device("cpu")


def test_an_old_driver_is_no_reason_to_compute_on_the_cpu_in_silence(machine: Path) -> None:
    fake_nvidia_smi(machine / "bin")
    with pytest.raises(CardUnusable) as raised:
        hardware.device()
    assert str(raised.value) == (
        "there is an NVIDIA card here that torch cannot use: driver 550 runs CUDA 12 builds, this torch is built for 13; "
        "run make install, or set WORKBENCH_DEVICE=cpu to work on the CPU."
    )
    assert cards() == [Card("NVIDIA H100 80GB HBM3", "550.54.14", 81559 * 2**20, (9, 0))]


@pytest.mark.parametrize("ask", [hardware.backend, hardware.device_words, lambda: hardware.device("cuda")])
def test_plans_and_keys_do_not_lie_about_the_device_either(ask: object, machine: Path) -> None:
    fake_nvidia_smi(machine / "bin")
    with pytest.raises(CardUnusable, match="driver 550 runs CUDA 12 builds"):
        ask()  # type: ignore[operator]


def test_the_driver_is_asked_once_a_process(machine: Path) -> None:
    fake_nvidia_smi(machine / "bin")
    for _ in range(3):
        with pytest.raises(CardUnusable):
            hardware.device()
    assert len((machine / "bin" / "calls").read_text().splitlines()) == 2  # the cards, and the head with CUDA's version


def test_who_names_the_cpu_gets_it_and_nobody_asks_the_driver(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(machine / "bin")
    assert hardware.device("cpu") == torch.device("cpu")
    monkeypatch.setenv("WORKBENCH_DEVICE", "cpu")
    assert hardware.device() == torch.device("cpu")
    assert not (machine / "bin" / "calls").exists()


@pytest.mark.parametrize("visible", ["", "-1"])
def test_who_hides_all_cards_gets_the_cpu(visible: str, machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(machine / "bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.device() == torch.device("cpu")


def test_a_torch_without_cuda_is_named(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_nvidia_smi(machine / "bin", driver="580.65.06", cuda="13.0")
    monkeypatch.setattr(torch.version, "cuda", None)
    assert card_problem() == f"{driver.CANNOT}: this torch is built without CUDA; run make install"


def test_a_fitting_driver_on_which_torch_finds_no_card_is_said_with_torchs_own_words(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def init() -> None:
        raise RuntimeError("CUDA unknown error - this may be due to an incorrectly set up environment.\nmore")

    fake_nvidia_smi(machine / "bin", driver="580.65.06", cuda="13.0")
    monkeypatch.setattr(torch.cuda, "init", init)
    assert "though driver 580 runs this build (CUDA unknown error - this" in (card_problem() or "")


def test_a_variable_that_names_a_card_which_is_not_there_is_named(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_nvidia_smi(machine / "bin", driver="580.65.06", cuda="13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert "CUDA_VISIBLE_DEVICES is '3' and names no card of this machine" in (card_problem() or "")


def test_a_driver_for_which_there_is_no_torch_has_to_be_replaced(machine: Path) -> None:
    fake_nvidia_smi(machine / "bin", driver="470.82.01", cuda="11.4")
    assert "driver 470 runs CUDA 11 builds, this torch is built for 13; install driver 580" in (card_problem() or "")


FAILS = "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver."


def test_an_nvidia_smi_that_fails_counts_where_a_card_is_in_the_machine(machine: Path) -> None:
    fake_program(machine / "bin" / "nvidia-smi", f'echo "{FAILS}"; exit 9')
    assert card_problem() is None  # an image with the driver, on a machine without a card
    on_the_bus(machine)
    driver.driver_report.cache_clear()
    hardware._unseen.cache_clear()
    assert f"nvidia-smi fails ({FAILS.rstrip('.')}); restart the machine" in (card_problem() or "")


def test_an_nvidia_smi_that_finds_no_card_is_no_card(machine: Path) -> None:
    on_the_bus(machine)
    fake_program(machine / "bin" / "nvidia-smi", "echo No devices were found; exit 6")
    assert card_problem() is None and cards() == []


def test_an_nvidia_smi_that_hangs_is_not_waited_for(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_the_bus(machine)
    monkeypatch.setattr(driver, "PATIENCE", 0.1)
    fake_program(machine / "bin" / "nvidia-smi", "exec /bin/sleep 20")
    assert "did not answer within" in (card_problem() or "")


def test_a_driver_that_does_not_say_the_capability_is_asked_without(machine: Path) -> None:
    fake_program(
        machine / "bin" / "nvidia-smi",
        """case "$*" in
        *compute_cap*) echo 'Field "compute_cap" is not a valid field to query.'; exit 2;;
        *--query*) echo 'NVIDIA GB10, 535.1, [N/A]';;
        esac""",
    )
    assert driver.driver_report() == DriverReport((Card("NVIDIA GB10", "535.1", None, None),), 12)


def kernel_knows_a_card(machine: Path) -> None:
    (machine / "PROC" / "gpus" / "0000:01:00.0").mkdir(parents=True)
    (machine / "PROC" / "gpus" / "0000:01:00.0" / "information").write_text("Model: \t\t NVIDIA L4\nIRQ: 1\n")
    version = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Thu Feb 22 01:44:30 UTC 2024\n"
    (machine / "PROC" / "version").write_text(version)


def test_a_container_without_the_nvidia_runtime_is_named(machine: Path) -> None:
    kernel_knows_a_card(machine)
    assert "started without the NVIDIA L4 of its machine; start it with the NVIDIA runtime" in (card_problem() or "")


def test_a_container_with_the_card_and_without_nvidia_smi_knows_its_driver(machine: Path) -> None:
    kernel_knows_a_card(machine)
    (machine / "DEVICES").mkdir()
    (machine / "DEVICES" / "nvidiactl").touch()
    assert "driver 550 runs CUDA 12 builds, this torch is built for 13" in (card_problem() or "")
    assert cards() == [Card("NVIDIA L4", "550.54.14")]


BUILT_13 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"]
BUILT_126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]


@pytest.mark.parametrize(
    ("cuda", "capability", "built", "said"),
    [
        ("13.2", (8, 9), BUILT_13, None),
        ("13.2", (12, 1), BUILT_13, None),
        (
            "13.2",
            (7, 0),
            BUILT_13,
            "capability 7.0 is too old for this torch, which is built for 7.5 to 12.0; run make",
        ),
        (
            "12.6",
            (12, 0),
            BUILT_126,
            "capability 12.0 is too new for this torch, which is built for 5.0 to 9.0; run make",
        ),
        ("12.6", (3, 5), BUILT_126, "capability 3.5 is too old .* no torch that the workbench runs on"),
        ("13.2", (13, 0), BUILT_13, "capability 13.0 is too new .* no torch that the workbench runs on"),
        ("13.2", (13, 0), [*BUILT_13, "compute_120"], None),
        ("9.0", (9, 4), ["gfx942"], None),
    ],
)
def test_a_card_too_old_or_too_new_for_this_torch_is_named(
    cuda: str, capability: tuple[int, int], built: list[str], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "gpus", lambda: 1)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: built)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
    if said is None:
        assert hardware.device() == torch.device("cuda") and card_problem() is None
        return
    with pytest.raises(CardUnusable, match=said):
        hardware.device()


def test_devices_that_nobody_has_tried_are_refused() -> None:
    with pytest.raises(UsageError, match="on mps the workbench is untried; name cpu, cuda"):
        hardware.device("mps")


@pytest.mark.parametrize(
    ("version", "cuda", "card", "backend", "helps"),
    [
        ("580.65.06", "13.0", H100, None, True),
        ("595.10", "14.1", H100, None, True),
        ("550.54.14", "12.4", H100, "cu126", True),
        ("525.60.13", "12.0", H100, "cu126", True),
        ("570.86", "12.8", RTX_5090, "cu128", True),  # 12.6 knows no Blackwell
        ("580.65.06", "13.0", V100, "cu126", True),  # CUDA 13 no longer knows Volta
        ("470.82.01", "11.4", H100, None, False),
        ("580.65.06", "13.0", "Tesla K80, {driver}, 11441, 3.7", None, False),
    ],
)
def test_the_build_of_torch_goes_by_the_driver_and_the_card(
    version: str, cuda: str, card: str, backend: str | None, helps: bool, machine: Path
) -> None:
    fake_nvidia_smi(machine / "bin", version, cuda, card)
    chosen = driver.choose_build(driver.driver_report(), locked=13)
    assert (chosen.backend, chosen.helps) == (backend, helps)
    assert chosen.why


def test_of_several_cards_the_newest_chooses() -> None:
    old, new = Card("Tesla V100", "580.1", capability=(7, 0)), Card("NVIDIA A100", "580.1", capability=(8, 0))
    assert driver.choose_build(DriverReport((old, new), 13), 13).backend is None
    assert driver.choose_build(DriverReport(), 13) == driver.TorchBuild(None, "")


LOCK = (Path(__file__).parents[2] / "requirements.lock").read_text()


def test_the_lock_of_another_build_leaves_cuda_out_and_lets_torch_be_older() -> None:
    """CUDA 12 ended with torch 2.14: with the lock's 2.15 pinned, no driver 550 could have got a build at all."""
    locked = driver.locked_cuda(LOCK)
    assert locked == 13 and driver.requirements(LOCK, None) == LOCK
    lines = driver.requirements(LOCK, "cu126").splitlines()
    assert not [line for line in lines if line.startswith(("nvidia-", "cuda-", "triton=="))]
    pinned = {line for line in LOCK.splitlines() if line.startswith(("torch==", "torchvision=="))}
    assert {line for line in lines if line.startswith(("torch<", "torchvision<"))} == {
        line.replace("==", "<=") for line in pinned
    }
    assert any(line.startswith("torchsde==") for line in lines)


def test_a_torch_of_another_build_is_replaced_with_all_that_it_brought() -> None:
    installed = ["torch", "nvidia-cudnn-cu13", "nvidia-cublas", "triton", "cuda-toolkit", "numpy"]
    tried, uninstall, install = driver.uv_commands("cu126", "13.2", 13, installed)
    assert tried == [*install, "--dry-run"]  # before anything is taken away
    assert uninstall[-4:] == ["cuda-toolkit", "nvidia-cublas", "nvidia-cudnn-cu13", "triton"]
    assert " ".join(install).endswith("--reinstall-package torch --reinstall-package torchvision -r -")
    assert "--torch-backend cu126 -r pyproject.toml" in " ".join(install)
    back = driver.uv_commands(None, "12.6", 13, ["nvidia-cudnn-cu12"])
    assert back[1][-1] == "nvidia-cudnn-cu12" and "--torch-backend" not in back[2]
    assert driver.uv_commands(None, "13.2", 13, installed) == [["pip", "install", "--quiet", "-r", "-"]]
    assert driver.uv_commands("cu126", None, 13, []) == [
        ["pip", "install", "--quiet", "--torch-backend", "cu126", "-r", "pyproject.toml", "-r", "-"]
    ]


def test_the_installed_build_is_read_without_importing_torch() -> None:
    assert (driver.installed_cuda() or "")[:2].isdecimal()
    assert driver.fits("12.6", "cu126", 13) and not driver.fits("12.8", "cu126", 13)
    assert driver.fits("13.0", None, 13) and not driver.fits("none", None, 13) and not driver.fits(None, None, 13)
