"""From a spec to a finished run: what is asked, what it takes, and the engine that makes each stage once.

In: a spec (a preset, what varies, prompts, seeds). Out: a `Plan` before anything runs; then a run on disk. It may be stopped
at any moment, and the same call goes on. A *job* is one stage of one content key; a *task* is the jobs that run in one call,
like one face at all CodeFormer weights: what a process claims; a *batch* is the pictures of one UNet call.
`search/` chooses cells instead of making all; `cluster/` runs tasks on the machines of a Ray cluster.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
