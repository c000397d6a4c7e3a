"""The tasks of a sweep on the machines of a Ray cluster: one worker for each GPU, one hub beside the run's folder.

In: cells, and a store that all machines share. Out: the same records and pixels as a sweep on one machine.
The hub hands out tasks, and it alone writes into the run; when a worker dies, another one makes its tasks.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
