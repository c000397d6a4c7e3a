from .places import (
    open_place as open_place,
    parse_size as parse_size,
    public_address as public_address,
    size_words as size_words,
)
from .store import Artefact as Artefact, Store as Store
from .upkeep import StoreStats as StoreStats, stats as stats, verify as verify
