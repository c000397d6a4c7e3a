"""Every named error. `str()` of one is a plain sentence: what was wrong, what is allowed, what to do. Imports nothing."""

from __future__ import annotations


class WorkbenchError(Exception):
    """Something the user can fix. `str()` is one plain sentence that says what was wrong, what is allowed and what to do."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """What IPython shows of it: the sentence, not thirty frames of this package."""
        return [f"{type(self).__name__}: {self}"]


class UsageError(WorkbenchError):
    """The request itself is wrong; nothing was started."""

    exit_code = 2


class SettingsError(UsageError, ValueError):
    """An unknown setting, or a value that is out of range or of the wrong type."""


class MissingWeights(WorkbenchError):
    """A weights file or folder is not there."""


class CorruptWeights(WorkbenchError):
    """A weights file is there but cut short, unreadable, or of another architecture."""


class Cancelled(WorkbenchError):
    """The work was told to stop; everything finished so far is kept."""


# --- files


class DiskFull(WorkbenchError):
    """No room for a file that has to be written."""


class CannotWrite(WorkbenchError):
    """A file or folder cannot be written for another reason (rights, read-only disk)."""


class StillWritten(WorkbenchError):
    """A file that changes while its hash is being taken."""


# --- files


class UnreadablePicture(UsageError):
    """A file that is missing, no picture, or damaged."""


class NoSettingsInPicture(UsageError):
    """A picture that the workbench did not write, or whose metadata was stripped."""


# --- store


class DamagedArtefact(WorkbenchError):
    """What lies in the store is not what was put there."""


class NoEviction(UsageError):
    """Eviction was asked of a remote store."""


# --- store


class UnreadableSize(UsageError):
    """A size that is not written like `50GB`."""


class UnknownPlace(UsageError):
    """A URL of a kind that no installed library can open."""


class StoreUnreachable(WorkbenchError):
    """A remote store that does not answer, or refuses."""


# --- models


class WrongVAE(UsageError):
    """A VAE whose latents are not this model's: it would load without any error and give wrong pictures."""


class OutOfMemory(WorkbenchError):
    """The device has too little free memory for this picture."""


# --- models


class RestorationFailed(WorkbenchError):
    """A network ran but gave no usable picture."""


# --- recipe


class GuidanceEmbedded(UsageError):
    """A UNet that takes the guidance scale as an input (LCM and other distilled models)."""


# --- recipe


class DegenerateFace(WorkbenchError):
    """The landmarks do not determine a crop: they coincide or are not finite."""


# --- scores


class NoFace(WorkbenchError):
    """A picture without a face that can be measured."""


# --- presets


class PresetNotFound(UsageError):
    """No preset of that name or at that path."""


class NothingToRollBack(UsageError):
    """No preset of that name was ever replaced, or not the one that was asked for."""


class BadPreset(UsageError):
    """A file that is no preset, is of another version, was altered, or holds settings that are not allowed."""


# --- sweeps


class SpecError(UsageError):
    """A sweep spec that cannot be run as it is."""


# --- sweeps


class RunNotFound(UsageError):
    """No run of that name."""


class MixedScores(UsageError):
    """The cells of a run were scored by different versions of a score."""


class BadRun(UsageError):
    """A folder that is no run, or whose run.json is damaged."""


# --- sweeps


class SmallerBatch(WorkbenchError):
    """The device has too little memory for this batch; the sweep goes on with a smaller one."""

    def __init__(self, stage: str, size: int) -> None:
        super().__init__(f"out of device memory: the {stage} stage goes on with {size} pictures at a time.")
        self.stage, self.size = stage, size


# --- sweeps


class RecordLost(WorkbenchError):
    """What was written into the run's journal is not there."""


class RunBusy(WorkbenchError):
    """Another process is working on this run."""


# --- sweeps


class NotStarted(WorkbenchError):
    """The process of a sweep ended before it began to work, or did not begin in time."""


class RunFailed(WorkbenchError):
    """The process that worked on a run ended before it was finished."""


class StillRunning(WorkbenchError):
    """The time to wait is over, and the sweep goes on."""


# --- sweeps


class TooManyWorkers(UsageError):
    """More processes than GPUs."""


# --- sweeps


class InputLost(WorkbenchError):
    """A winner's refined picture is no longer in the store."""


# --- sweeps.search


class StrategyError(UsageError):
    """A strategy that does not exist, or a budget it cannot work with."""


# --- sweeps.search


class OptunaMissing(UsageError):
    """strategy = "pareto" without Optuna."""


# --- sweeps.cluster


class RayMissing(UsageError):
    """The extra [ray] is not installed."""


class HubLost(WorkbenchError):
    """The process that writes the results has died."""


class StoreNotShared(UsageError):
    """A store that a worker does not see."""


# --- sweeps.cluster


class NoCluster(UsageError):
    """No Ray cluster answers where one should be."""


class NoWorkers(WorkbenchError):
    """A cluster on which no worker runs."""


class OtherPictures(UsageError):
    """A worker whose pictures would be others than this process has planned."""


# --- analysis


class LayoutError(UsageError):
    """Rows, columns and pages that do not name every dimension of a run once, or a page that is not there."""


class NoPicture(UsageError):
    """A cell that failed, so that there is no picture of it."""


# --- analysis


class VoteError(UsageError):
    """A vote on cells that cannot be compared, or no vote to take back."""


# --- promotion


class NoChallenge(UsageError):
    """A champion and a challenger that cannot be compared: one is not there, or they are the same."""


# --- promotion


class NothingToPromote(UsageError):
    """No setting combination of the run is finished, scored on every prompt and seed, and free of flags; or not this one."""


# --- notebook


class NoAxis(UsageError):
    """A setting that cannot be an axis, or that has one value only."""


class TooManyPins(UsageError):
    """All places for pins are taken."""


# --- notebook


class NotebookNotFound(UsageError):
    """No notebook of that name."""


class ParameterError(UsageError):
    """A parameter that the notebook does not have, or of the wrong type."""


class NotebookFailed(WorkbenchError):
    """A cell raised, or the kernel died; the notebook up to there was saved."""


# --- cli


class UnreadableSpan(UsageError):
    """A span of time that is not written like `30d`."""


class DamagedStore(WorkbenchError):
    """Something in the store is not what was put there."""


# --- notebook.widgets


class NotFinished(UsageError):
    """A sweep whose results are asked for before there are all of them."""
