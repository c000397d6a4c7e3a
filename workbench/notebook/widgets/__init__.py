"""What one sits at in JupyterLab: the tuner, the sweep panel with its wall, the ballot, the promotion panel.

Each panel is Python that keeps the state and one script in `static/` that draws it; they talk in small messages.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
