"""A run as pictures and as one HTML file: contact sheet, heat maps, effects, Pareto front, ranking, wall.

In: a `Run`. Out: PIL pictures, and an HTML page that needs nothing else and no script.
matplotlib is used through Figure and its Agg canvas, never pyplot, whose global state breaks under notebook threads.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
