"""A sweep's run on disk, read: one folder, one durable record for each cell, a table of all of them.

In: a run's folder. Out: records, a DataFrame, the settings ranked over prompts and seeds, which values gave the very same
pictures. A *cell* is one picture of a sweep; its *record* is the newest line of the journal on it.
What writes a run is in `sweeps`; what its numbers say is in `analysis`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
