"""From a run to a preset: the winner with its evidence, and the champion whom it has to beat on new seeds.

In: a run, or a champion and a challenger. Out: a *duel* (a sweep of both on equal prompts and seeds that neither was chosen
on), a `Verdict` in one word with its interval, a preset file.
A setting on which a guard fired is not promoted.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
