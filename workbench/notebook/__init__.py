"""What one works with in JupyterLab, and notebooks run by papermill with parameters that are checked.

In: a notebook's parameters, a person's hands. Out: an executed notebook, a *tuning session* on disk (what was tried, pinned
and collected), and in `widgets/` the tuner, the sweep panel with its wall, the ballot and the promotion panel.
Widgets are imported here only.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
