"""Every loss shows in its docstring how a config uses it; what it shows is a point that works."""

import inspect
import re
from textwrap import dedent

import pytest
from torch import nn

from diffkd_mm import losses
from diffkd_mm.distillers.point_options import PointOptions
from diffkd_mm.registry import build_model

LOSSES = [x for x in vars(losses).values() if inspect.isclass(x) and issubclass(x, nn.Module)]


@pytest.mark.parametrize('loss', LOSSES)
def test_config_of_the_docstring(loss):
    code = re.search(r'code-block:: python\n\n((?: {4}.*\n)+)', inspect.getdoc(loss))
    assert code, f'{loss.__name__} shows no config'
    ((name, cfg),) = eval(f'dict({dedent(code[1])})').items()
    options = PointOptions.from_config(name, cfg)
    assert isinstance(build_model(cfg['loss']), loss)
    if 'connector' in cfg:
        assert build_model(options.connector)
