"""Preset files: settings with a name, the evidence for them and the licences they come under.

In: settings, or a file. Out: a `Preset`, checked against its checksum. A preset that is replaced is kept in `history/`, from
where it can be rolled back; `changes.jsonl` is the log of all that was written. `shipped/` holds the presets that come with
the workbench. Own presets lie in `presets/` at home and hide shipped ones of the same name.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
