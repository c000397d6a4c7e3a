"""What a run's numbers say: main effects, the Pareto front, where each cell stands on the wall, what people voted.

In: a `Run`. Out: DataFrames and plain records; nothing here draws.
A *wall* is a run's cells laid out on pages of rows and columns; a *vote* is a person's choice between two faces of one prompt
and seed, made without names or scores; a *mark* is a favourite or a reject.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
