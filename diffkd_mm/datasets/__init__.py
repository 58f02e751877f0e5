"""Data sets that come with the project, and one that holds the images of another in memory."""

from .digits import DigitsDataset, make_digits
from .folders import SplitFolders
from .in_memory import InMemoryDataset

__all__ = ['DigitsDataset', 'InMemoryDataset', 'SplitFolders', 'make_digits']
