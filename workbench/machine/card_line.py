"""What the driver says of the NVIDIA cards; whether torch can use them is said by the trial."""

from __future__ import annotations

from workbench.models import driver_report
from workbench.store import size_words

from .findings import Finding, ok, trouble


def card_finding() -> Finding:
    """The cards, their memory and driver. Asks the driver, which takes up to two seconds where there is one."""
    report = driver_report()
    if report.trouble:
        return trouble("card", "failed", report.trouble)
    if not report.cards:
        return ok("card", "no NVIDIA card: pictures are made on the CPU")
    named = [
        f"{each.name}{f' with {size_words(each.memory_bytes)}' if each.memory_bytes else ''}" for each in report.cards
    ]
    cuda = f", which runs builds for CUDA {report.cuda}" if report.cuda else ""
    return ok("card", f"{', '.join(named)}; driver {report.cards[0].driver}{cuda}")
