from .places import parse_size as parse_size, size_words as size_words
from .store import Artefact as Artefact, Store as Store
from .upkeep import StoreStats as StoreStats, stats as stats, verify as verify
