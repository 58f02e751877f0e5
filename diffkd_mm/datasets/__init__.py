"""Data sets that come with the project, and one that holds the images of another in memory.

``folders`` needs MMPretrain, so configs that use it import it themselves.
"""

from .digits import DigitsDataset, make_digits
from .in_memory import InMemoryDataset

__all__ = ['DigitsDataset', 'InMemoryDataset', 'make_digits']
