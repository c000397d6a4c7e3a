"""Every named error, room by room. `str()` of one is a plain sentence: what was wrong, what is allowed, what to do.

Imports nothing.
"""

from __future__ import annotations

from collections.abc import Mapping


class WorkbenchError(Exception):
    """Something that its user can fix. `str()` says in one sentence what was wrong, what is allowed and what to do.

    Attributes:
        exit_code: of a command that ends with this error.
    """

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the sentence, not thirty frames of this package."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(WorkbenchError):
    """The request itself is wrong; nothing was started."""

    exit_code = 2


class NotLinux(WorkbenchError):
    """The workbench was imported on another system than Linux."""


class Cancelled(WorkbenchError):
    """The work was told to stop; everything that was finished before is kept."""


# --- settings ------------------------------------------------------------------------------------------------------


class SettingsError(UsageError, ValueError):
    """A setting does not exist, or its value is out of range or of the wrong type."""


class StageError(UsageError):
    """A module that registers stages cannot be imported, or a stage's name or settings are taken."""


# --- files ---------------------------------------------------------------------------------------------------------


class DiskFull(WorkbenchError):
    """There is no room for a file that has to be written."""


class CannotWrite(WorkbenchError):
    """A file or folder cannot be written for another reason than room: rights, or a read-only disk."""


class StillWritten(WorkbenchError):
    """A file changes while its hash is taken."""


class OddFile(WorkbenchError):
    """A file that the workbench has written is damaged, or of another shape than it should be."""


class UnreadablePicture(UsageError):
    """A picture's file is missing, is damaged, or is no picture."""


class NoSettingsInPicture(UsageError):
    """A picture carries no settings: the workbench did not write it, or its metadata was stripped."""


class NotUnderstood(UsageError):
    """A text of another tool is damaged, in no format that is known, or asks for what the workbench cannot make."""


# --- store ---------------------------------------------------------------------------------------------------------


class DamagedArtefact(WorkbenchError):
    """One artefact in the store is not what was put there."""


class NoEviction(UsageError):
    """Something was to be evicted from a store that is no folder."""


class UnreadableSize(UsageError):
    """A size is not written like `50GB`."""


class UnknownPlace(UsageError):
    """No installed library opens a store's URL."""


class StoreUnreachable(WorkbenchError):
    """A remote store does not answer, or refuses."""


# --- models --------------------------------------------------------------------------------------------------------


class PullFailed(WorkbenchError):
    """A weight cannot be fetched: nobody answers, it is not there, or what comes is not what was published."""


class NeedsToken(PullFailed):
    """A weight is only given to those who show a token."""


class MissingWeights(WorkbenchError):
    """A file or folder of weights is not there."""


class CorruptWeights(WorkbenchError):
    """A weights file is there, but is cut short, unreadable, or of another architecture."""


class WrongModel(UsageError):
    """A model is of a kind that cannot be used where it was named: Stable Diffusion 1.x, a LoRA, a refiner as the base."""


class WrongVAE(UsageError):
    """A VAE's latents are not this model's: it would load without any error and give wrong pictures."""


class OutOfMemory(WorkbenchError):
    """The device has too little free memory for this picture."""


class CardUnusable(WorkbenchError):
    """There is an NVIDIA card that torch cannot use: its driver, its age or its container does not go with this torch."""


class RestorationFailed(WorkbenchError):
    """A restorer or upscaler was given what it cannot take, or gave no usable picture."""


# --- recipe --------------------------------------------------------------------------------------------------------


class GuidanceEmbedded(UsageError):
    """A model's UNet takes the guidance scale as an input, as LCM and other distilled models do."""


class NotFinite(WorkbenchError):
    """A network gave numbers that are none (NaN) or infinite, from which there is no picture."""


class DegenerateFace(WorkbenchError):
    """A face's landmarks do not determine a crop: they coincide, are not finite, or lie outside the picture."""


# --- scores --------------------------------------------------------------------------------------------------------


class NoFace(WorkbenchError):
    """A picture has no face that can be measured."""


# --- presets -------------------------------------------------------------------------------------------------------


class PresetNotFound(UsageError):
    """There is no preset of that name or at that path."""


class NothingToRollBack(UsageError):
    """No preset of that name was ever replaced, or not the one that was asked for."""


class BadPreset(UsageError):
    """A file is no preset, is one of another version, was altered, or holds settings that are not allowed."""


# --- runs ----------------------------------------------------------------------------------------------------------


class RunNotFound(UsageError):
    """There is no run of that name."""


class MixedScores(UsageError):
    """The cells of a run were scored by different versions of a score."""


class BadRun(UsageError):
    """A folder is no run, or its run.json is damaged."""


class BadArchive(UsageError):
    """A file is no archive of a run, is damaged or cut short, or would write outside the run's folder."""


class AlreadyThere(UsageError):
    """What would be written is there already, with other content."""


# --- analysis ------------------------------------------------------------------------------------------------------


class LayoutError(UsageError):
    """Rows, columns and pages do not name every dimension of a run once, or name a page that is not there."""


class NoPicture(UsageError):
    """A cell failed, so that there is no picture of it."""


class VoteError(UsageError):
    """A vote is on cells that cannot be compared, or there is no vote to take back."""


# --- sweeps --------------------------------------------------------------------------------------------------------


class SpecError(UsageError):
    """A sweep's spec cannot be run as it is."""


class SmallerBatch(WorkbenchError):
    """The device has too little memory for this batch; the sweep goes on with a smaller one."""

    def __init__(self, stage: str, size: int) -> None:
        super().__init__(f"out of device memory: the {stage} stage goes on with {size} pictures at a time.")
        self.stage, self.size = stage, size


class RecordLost(WorkbenchError):
    """What was written into a run's journal is not there."""


class RunBusy(WorkbenchError):
    """Another process is working on this run."""


class NotStarted(WorkbenchError):
    """The process of a sweep ended before it began to work, or did not begin in time."""


class RunFailed(WorkbenchError):
    """The process that worked on a run ended before the run was finished."""


class StillRunning(WorkbenchError):
    """The time to wait is over, and the sweep goes on."""


class CommandFailed(WorkbenchError):
    """A sweep is done, but the command that was to follow it ended with an error."""


class TooManyWorkers(UsageError):
    """More processes were asked for than there are GPUs."""


class InputLost(WorkbenchError):
    """What a winner is enlarged from is no longer there, or is another picture."""


class StrategyError(UsageError):
    """A strategy does not exist, or cannot work with its budget."""


class OptunaMissing(UsageError):
    """A sweep has strategy = "pareto", and Optuna is not installed."""


class RayMissing(UsageError):
    """A sweep is to run on a cluster, and the extra [ray] is not installed."""


class NoCluster(UsageError):
    """No Ray cluster answers where one should be."""


class NoWorkers(WorkbenchError):
    """No worker runs on a cluster."""


class HubLost(WorkbenchError):
    """The process that writes the results of a cluster's workers has died."""


class StoreNotShared(UsageError):
    """A worker does not see the store."""


class OtherPictures(UsageError):
    """A worker would make other pictures than the ones that were planned here."""


# --- machine -------------------------------------------------------------------------------------------------------


class NotEnoughToFree(WorkbenchError):
    """Less can be freed safely than was asked for, so that nothing was freed."""


class NobodyToAsk(UsageError):
    """Something was to be removed, there is no terminal at which to ask first, and --yes was not given."""


# --- promotion -----------------------------------------------------------------------------------------------------


class NoChallenge(UsageError):
    """Champion and challenger cannot be compared: one of them is not there, or they are the same."""


class BadPairs(UsageError, ValueError):
    """What a decision was asked of is no list of pairs: a number is missing, a pair is given twice."""


class BadLedger(WorkbenchError):
    """The record of who was judged on what cannot be read, so that no promise can be kept."""


class NothingToPromote(UsageError):
    """No settings of a run are finished, scored on every prompt and seed, and free of flags; or not the ones asked for."""


class NotPromoted(NothingToPromote):
    """A challenger met the champion and did not prove better. `verdict` is what was found, as JSON."""

    exit_code = 3

    def __init__(self, message: str, verdict: Mapping[str, object]) -> None:
        super().__init__(message)
        self.verdict = verdict


# --- notebook ------------------------------------------------------------------------------------------------------


class NoAxis(UsageError):
    """A setting cannot be an axis, or has only one value."""


class TooManyPins(UsageError):
    """All places for pins are taken."""


class NotFinished(UsageError):
    """A sweep's results were asked for before all of them were there."""


class NotebookNotFound(UsageError):
    """There is no notebook of that name."""


class ParameterError(UsageError):
    """A notebook does not have such a parameter, or not of that type."""


class NotebookFailed(WorkbenchError):
    """A cell raised, or the kernel died; the notebook up to there was saved."""


# --- serve ---------------------------------------------------------------------------------------------------------


class BadRequest(UsageError):
    """A request to the server asks for what there is not, or not for everybody."""


class QueueFull(WorkbenchError):
    """Too many pictures wait. `retry_after`: seconds; `yours`: whether they are the very client's that asks."""

    def __init__(self, words: str, retry_after: float, *, yours: bool) -> None:
        super().__init__(f"{words}; ask again in {retry_after:.0f} s.")
        self.retry_after, self.yours = retry_after, yours


class ServerStopping(WorkbenchError):
    """The server is about to end and makes no more pictures."""


class NotServed(UsageError):
    """A server would be open to whom it should not be, or serve what a licence forbids to serve."""


# --- cli -----------------------------------------------------------------------------------------------------------


class UnreadableSpan(UsageError):
    """A span of time is not written like `30d`."""


class DamagedStore(WorkbenchError):
    """Artefacts in the store are not what was put there."""
