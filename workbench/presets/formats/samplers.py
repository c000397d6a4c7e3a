"""What other tools call our samplers and schedules.

Ours are A1111's names with the schedule apart; InvokeAI has the schedule in the sampler's name ("dpmpp_2m_k"), ComfyUI and
SwarmUI have two names ("dpmpp_2m", "karras").
"""

from __future__ import annotations

SCHEDULERS = {
    "automatic": "auto", "normal": "Normal", "karras": "Karras", "exponential": "Exponential", "beta": "Beta",
    "sgm_uniform": "SGM Uniform", "align_your_steps": "Align Your Steps",
}  # fmt: skip
"""{A1111's name of a schedule: ours}."""
AUTOMATIC = {"DPM++ 2M": "Karras", "DPM++ SDE": "Karras", "DPM++ 2M SDE": "Exponential"}
"""The schedule that A1111 takes for a sampler when it is asked for none; of the others the model's own."""
UPSCALERS = {
    "Lanczos": "lanczos", "Nearest": "nearest", "R-ESRGAN 4x+": "realesrgan-x4plus",
    "R-ESRGAN 4x+ Anime6B": "realesrgan-x4plus-anime-6B",
}  # fmt: skip
"""{A1111's name: our resampler}; files have the same names in both."""

COMFY_SAMPLERS = {
    "dpmpp_2m": "DPM++ 2M", "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_sde": "DPM++ SDE", "euler": "Euler",
    "euler_ancestral": "Euler a", "uni_pc": "UniPC", "ddim": "DDIM", "lcm": "LCM",
}  # fmt: skip
"""{ComfyUI's and SwarmUI's name of a sampler: ours}."""
COMFY_SCHEDULERS = {
    "normal": "Normal", "karras": "Karras", "exponential": "Exponential", "beta": "Beta", "sgm_uniform": "SGM Uniform",
    "align_your_steps": "Align Your Steps",
}  # fmt: skip
"""{ComfyUI's and SwarmUI's name of a schedule: ours}; in ComfyUI, Align Your Steps is a node of its own."""
INVOKE_SAMPLERS = {
    "dpmpp_2m": "DPM++ 2M", "dpmpp_2m_sde": "DPM++ 2M SDE", "dpmpp_sde": "DPM++ SDE", "euler": "Euler", "euler_a": "Euler a",
    "unipc": "UniPC", "ddim": "DDIM", "lcm": "LCM", "tcd": "TCD",
}  # fmt: skip
"""{InvokeAI's name of a scheduler: our sampler}; with "_k" behind it, its schedule is Karras."""


def other_name(names: dict[str, str], ours: str) -> str | None:
    """The first other name of ours in a table {other name: ours}; None where there is none."""
    return next((name for name, value in names.items() if value == ours), None)
