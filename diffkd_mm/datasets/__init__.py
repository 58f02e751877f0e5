"""Data sets that come with the project, and one that holds the images of another in memory.

``digits`` needs MMDetection, so the registry imports it when it is first asked for. ``folders``
needs MMPretrain; configs that use it import it themselves.
"""

from .in_memory import InMemoryDataset

__all__ = ['InMemoryDataset']
