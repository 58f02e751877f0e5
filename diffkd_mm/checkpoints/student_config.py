"""The student's own config, from the text of a distillation's that a checkpoint carries."""

import ast
from typing import Any

from mmengine.config import Config

from ..configs import is_distillation

# What it takes to build the student and to run it on images.
_FOR_INFERENCE = (
    *('default_scope', 'custom_imports', 'model', 'data_preprocessor'),
    *('test_pipeline', 'test_dataloader', 'test_evaluator', 'test_cfg'),
    *('tta_model', 'tta_pipeline', 'vis_backends', 'visualizer'),
)


def student_config(checkpoint: dict) -> Config | None:
    """The config by which stock inference tools run the student of a training checkpoint.

    A config is a program; the text is read as what MMEngine writes, literals and ``dict(…)``, and
    nothing in it is run.

    Args:
        checkpoint (dict): A checkpoint that MMEngine wrote, of a distillation or a plain model.

    Returns:
        Config: Model, test data and visualizer; None if there is no config or it is none of
        MMEngine's making.
    """
    text = checkpoint.get('meta', {}).get('cfg')
    try:
        cfg = {
            line.targets[0].id: _value(line.value)
            for line in ast.parse(text).body
            if line.targets[0].id in _FOR_INFERENCE
        }
        model = cfg['model']
    except (TypeError, ValueError, SyntaxError, AttributeError, KeyError):
        return None
    if is_distillation(model):
        outer = model.get('data_preprocessor')
        model = cfg['model'] = model['student']
        if outer is not None:
            model.setdefault('data_preprocessor', outer)
    if 'data_preprocessor' in cfg:
        model.setdefault('data_preprocessor', cfg['data_preprocessor'])
    imports = cfg.pop('custom_imports', None)
    if imports is not None and 'diffkd_mm.' not in repr(cfg):  # the student needs none of ours
        imports['imports'] = [name for name in imports['imports'] if name != 'diffkd_mm']
    if imports is not None and imports['imports']:
        cfg['custom_imports'] = imports
    return Config(cfg)


def _value(node: ast.AST) -> Any:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        if node.args or any(keyword.arg is None for keyword in node.keywords):
            raise ValueError('not of the form that MMEngine writes')
        return {keyword.arg: _value(keyword.value) for keyword in node.keywords}
    if isinstance(node, ast.Dict):
        return {_value(key): _value(value) for key, value in zip(node.keys, node.values)}
    if isinstance(node, ast.List):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(item) for item in node.elts)
    return ast.literal_eval(node)
