"""Recipes: a distillation's config for any pair of models, chosen by looking at both."""

from .methods import METHODS
from .recipe import Point, Recipe, recommend, recommend_for
from .survey import Survey, survey
from .trial import Trial, try_step
from .writing import config_text, describe
from .zoo import NamedModel, find_model

__all__ = [
    'METHODS',
    'NamedModel',
    'Point',
    'Recipe',
    'Survey',
    'Trial',
    'config_text',
    'describe',
    'find_model',
    'recommend',
    'recommend_for',
    'survey',
    'try_step',
]
