"""What of this machine and this process changes a picture's last bits, or more. It is part of every content key."""

from __future__ import annotations

import os
import platform
from functools import cache
from pathlib import Path

from . import hardware

SWITCHES = (  # of torch.backends
    "fp32_precision",
    "cuda.matmul.fp32_precision",
    "cuda.matmul.allow_fp16_accumulation",
    "cuda.matmul.allow_fp16_reduced_precision_reduction",
    "cuda.matmul.allow_bf16_reduced_precision_reduction",
    "cudnn.enabled",
    "cudnn.benchmark",
    "cudnn.deterministic",
    "cudnn.fp32_precision",
    "cudnn.conv.fp32_precision",
    "mkldnn.enabled",
    "mkldnn.deterministic",
    "mkldnn.fp32_precision",
    "mkldnn.matmul.fp32_precision",
    "mkldnn.conv.fp32_precision",
)
VARIABLES = (  # of the environment, which libraries read for themselves
    "CUBLAS_WORKSPACE_CONFIG",
    "DIFFUSERS_ATTN_BACKEND",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENCV_CPU_DISABLE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def numerics() -> dict[str, str]:
    """{what: its value}, in words: device, threads, processor, libraries of the device, and every switch of torch
    by which a notebook can change pixels."""
    import torch

    found = {"device": hardware.device_words(), **_machine(hardware.device().type)}
    found["attention"] = ", ".join(
        name
        for name in ("flash", "mem_efficient", "math", "cudnn")
        if getattr(torch.backends.cuda, f"{name}_sdp_enabled")()
    )
    found["float32_matmul_precision"] = _matmul_precision()
    found["deterministic_algorithms"] = str(torch.are_deterministic_algorithms_enabled())
    found |= {f"torch.backends.{name}": _switch(name) for name in SWITCHES}
    return found | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _matmul_precision() -> str:
    import torch

    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # it was set for one library alone, which `SWITCHES` has
        return "by library"


def _switch(name: str) -> str:
    import torch

    value: object = torch.backends
    for part in name.split("."):
        value = getattr(value, part, None)
    return str(value)


@cache
def _machine(device: str) -> dict[str, str]:
    """What does not change while a process lives."""
    import torch

    found = {"instructions": torch.backends.cpu.get_cpu_capability()}
    if device != "cuda":
        return found | {"processor": _processor()}
    about = torch.cuda.get_device_properties(hardware.device())
    found |= {"multiprocessors": str(about.multi_processor_count), "capability": f"{about.major}.{about.minor}"}
    return found | {"CUDA": str(torch.version.cuda), "cuDNN": str(torch.backends.cudnn.version())}


def _processor() -> str:
    """The processor's name with its family and model: in a virtual machine many have one name ("AMD EPYC")."""
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    names = ("vendor_id", "model name", "cpu family", "model", "CPU implementer", "CPU part")
    return ", ".join(about[name] for name in names if name in about) or platform.machine()
