"""Options of points, connectors, losses, hooks and distillers that cannot be right."""

import functools
from collections.abc import Callable

import tiny
from mmengine.config import ConfigDict
from table import Row

from diffkd_mm.distillers import DistillationPoint, PointOptions
from diffkd_mm.hooks import PicturesHook, TeacherMetricHook, WarmStartHook

MSE = dict(type='MSELoss')
CONV = dict(type='ConvConnector', student_channels=4, teacher_channels=4)
DIFFKD = dict(type='DiffKDConnector', student_channels=4, teacher_channels=4)
CHAIN = dict(type='KDiffusionChain')
POINT = dict(student='neck', teacher='neck', loss=MSE)

# Option of a point, wrong values, what the answer says beside point and option.
OF_A_POINT = [
    ('student', [None, 3, ['neck'], {}], 'takes a string'),
    ('teacher', [None, 1.5, ('neck',)], 'takes a string'),
    ('loss', [None, 'MSELoss', 5, ['MSELoss']], 'takes a dict'),
    ('connector', ['DiffKDConnector', 3, [CONV], True], 'takes a dict or None'),
    ('student_levels', ['0', 1.0, [0.5], ['a'], True, {}], 'takes a list, each item an integer'),
    ('teacher_levels', ['all', [None], [True]], 'takes a list, each item an integer'),
    ('strides', [[0], 0, -8, [8, -16], [8.0], '8'], 'an integer of at least 1'),
    ('regions', [True, 5, ['roi_head']], 'takes a string or None'),
    ('resize', ['False', 1, None, 'bilinear'], 'takes True or False'),
    ('balance', [1.0, True, ['ratio']], 'takes a dict or None'),
    ('teacher_name', [1, True, ['big'], {}], 'takes a string or None'),
    ('schedule', [8, True, [0, 8]], 'takes a dict or None'),
    ('chain', ['KDiffusionChain', True, [{}]], 'takes a dict or None'),
    ('guidance', [True, 5, ['head.fc']], 'takes a string or None'),
    ('guidance_weight', [-1, '1', None, True], 'takes a number of at least 0'),
    ('drop_tokens', [-1, '1', True, 1.5, None], 'takes an integer of at least 0 or a dict'),
    ('queries', [True, 'none', 0], "takes 'index' or None"),
    ('channels_last', [True, 'neither', 1], "takes 'student' or 'teacher' or 'both' or None"),
]
OF_DIFFKD = [
    ('student_channels', ['256', 0, -1, 25.6, True], 'an integer of at least 1'),
    ('teacher_channels', [0, 'x', 2.0], 'an integer of at least 1'),
    ('num_levels', [0, -1, '5', 1.0], 'an integer of at least 1 or None'),
    ('shared', ['no', 'False', 0, None], 'takes True or False'),
    ('latent_channels', [0, -4, 'auto', 0.5], 'an integer of at least 1 or None'),
    ('denoiser', ['BottleneckDenoiser', 5], 'takes a dict or None'),
    ('noise_adapter', [False, 'NoiseAdapter'], 'takes a dict or None'),
    ('num_inference_steps', [0, -5, '5', 2.5, True], 'an integer of at least 1'),
    ('output_projection', ['True', 1], 'takes True or False'),
    ('standardize', [True, 'level', ''], "takes 'channel' or 'scale' or None"),
    ('kd_trains_denoiser', ['False', 0, None], 'takes True or False'),
    ('norm_cfg', ['BN', True], 'takes a dict or None'),
    ('with_cp', ['False', 1], 'takes True or False'),
    ('loss_diff_weight', [-1, '1', None, float('nan'), float('inf'), True], 'a number of at least'),
    ('loss_ae_weight', [-0.5, [1.0]], 'takes a number of at least 0'),
]
OF_SCHEDULE = [
    ('start', [-1, '2', None, True, float('inf')], 'takes a number of at least 0'),
    ('stop', [0, -3, '8', [8]], 'takes a number above 0 or None'),
    ('ramp_up', [-1, None, '1'], 'takes a number of at least 0'),
    ('ramp_down', [-1, None, '1'], 'takes a number of at least 0'),
    ('by_epoch', ['False', 1, None], 'takes True or False'),
]
OF_CONV = [
    ('student_channels', ['4', 0, 4.0], 'an integer of at least 1'),
    ('num_levels', [0, '1'], 'an integer of at least 1 or None'),
    ('standardize', [True, 'mean'], "takes 'channel' or 'scale' or None"),
]
OF_LOSSES = [
    ('MSELoss', {}, 'loss_weight', [-5, '5', None, True, float('nan')], 'a number of at least 0'),
    ('MSELoss', {}, 'attention', [True, 'pixel'], "takes 'spatial' or 'channel' or None"),
    ('MSELoss', {}, 'tau', [0, -0.5, '0.5'], 'takes a number above 0'),
    ('KLDivLoss', {}, 'tau', [0, -4, None, float('inf')], 'takes a number above 0'),
    ('KLDivLoss', {}, 'loss_weight', [-1, '1'], 'takes a number of at least 0'),
    ('DISTLoss', {}, 'beta', [-2, '2'], 'takes a number of at least 0'),
    ('DISTLoss', {}, 'gamma', [None], 'takes a number of at least 0'),
    ('DISTLoss', {}, 'tau', [0], 'takes a number above 0'),
    ('CWDLoss', {}, 'tau', [0, '4'], 'takes a number above 0'),
    ('CWDLoss', {}, 'loss_weight', [-3], 'takes a number of at least 0'),
    ('PKDLoss', {}, 'loss_weight', [-1, True], 'takes a number of at least 0'),
    ('FGDLoss', dict(channels=4), 'channels', [0, '256'], 'an integer of at least 1'),
    ('FGDLoss', dict(channels=4), 'tau', [0], 'takes a number above 0'),
    ('FGDLoss', dict(channels=4), 'foreground_weight', [-1], 'takes a number of at least 0'),
    ('FGDLoss', dict(channels=4), 'num_levels', [0], 'an integer of at least 1 or None'),
]
# Names that points cannot have, and why.
NAMES = {
    'keys': 'attribute of this name',
    'forward': 'attribute of this name',
    'pop': 'attribute of this name',
    'training': 'attribute of this name',
    'fpn.neck': 'must be an identifier',
    'two words': 'must be an identifier',
    '': 'must be an identifier',
    'fpn_loss': "without 'loss'",
    5: 'must be a string',
}
UNKNOWN = [
    (dict(POINT, los=MSE), "no option 'los'.*Did you mean 'loss'"),
    (dict(POINT, loss=dict(type='MSELoss', weight=5)), "no option 'weight'.*loss_weight"),
    (dict(POINT, connector=dict(DIFFKD, steps=5)), "no option 'steps'"),
    (dict(POINT, connector=dict(CONV, chanels=5)), "no option 'chanels'"),
    (dict(POINT, loss=dict(type='MSE')), "no 'MSE' is registered.*Did you mean 'MSELoss'"),
    (dict(POINT, loss=dict(loss_weight=5)), "must be a dict with the key 'type'"),
    (dict(POINT, connector={}), "must be a dict with the key 'type'"),
    (dict(POINT, connector=dict(type=None)), "must be a dict with the key 'type'"),
    (
        dict(POINT, connector=dict(type='NoSuchConnector')),
        "no 'NoSuchConnector' is registered.*custom_imports",
    ),
    (dict(POINT, schedule=dict(end=8)), "no option 'end'.*start, stop, ramp_up"),
    (dict(POINT, schedule=dict(start=9, stop=8)), 'start=9.*do not fit before stop=8'),
    (dict(POINT, strides=[8], student_levels=[0]), 'by strides or by student_levels'),
    (dict(POINT, student_levels=[], teacher_levels=[]), r'student_levels=\[\] chooses no level'),
    (dict(POINT, strides=()), r'strides=\[\] chooses no level'),
    (dict(POINT, strides=[8, 16, 8]), r'strides=\[8, 16, 8\] names a stride more than once'),
    (dict(POINT, chain=CHAIN, strides=[8]), 'leave out student_levels, strides and regions'),
    (dict(POINT, chain=CHAIN, loss=dict(type='FGDLoss', channels=4)), 'modules per level'),
    (
        dict(POINT, guidance='a', connector=dict(DIFFKD, latent_channels=2)),
        'latent_channels replaces them',
    ),
    (dict(student='neck', loss=MSE), 'teacher is missing'),
    (dict(teacher='neck'), 'student, loss is missing'),
    ('neck', 'must be a dict of its options'),
    (None, 'must be a dict of its options'),
    ([POINT], 'must be a dict of its options'),
]
HOOK = [
    ('num_iters', [0, -1, '400', None, 1.5], 'takes an integer of at least 1'),
    ('lr', [0, -1e-3, '1e-3'], 'takes a number above 0'),
    ('interval', [0, 2.5], 'takes an integer of at least 1'),
]
PICTURES = [
    ('interval', [0, '500', None], 'takes an integer of at least 1'),
    ('num_images', [0, 1.5], 'takes an integer of at least 1'),
    ('level', [-1, 'all'], 'takes an integer of at least 0'),
    ('points', [5, [1]], 'a string'),
]
METRIC_HOOK = [
    ('num_images', [0, -1, '100', 2.5], 'takes an integer of at least 1 or None'),
    ('minimum', [-1, '0.3', True], 'takes a number of at least 0 or None'),
]
TEACHER = dict(config='mmdet::none.py', checkpoint='none.pth')
TWO = dict(big=TEACHER, wide=TEACHER)


def named(teacher: str) -> dict:
    return dict(p=dict(POINT, teacher_name=teacher))


DISTILLERS = {
    'points-list': (dict(points=[POINT]), 'points must be a dict'),
    'points-string': (dict(points='fpn'), 'points must be a dict'),
    'points-without-teacher': (dict(points=dict(p=POINT), teacher=None), 'need a teacher'),
    'inherit-without-teacher': (dict(inherit=['head'], teacher=None), 'need a teacher'),
    'teacher-without-points': ({}, 'neither points nor inherit'),
    'teacher-empty': (dict(teacher={}), 'needs a config and a checkpoint'),
    'teacher-string': (dict(teacher='mmdet::a.py'), 'needs a config and a checkpoint'),
    'teacher-no-checkpoint': (dict(teacher=dict(config='a')), 'needs a config and a checkpoint'),
    'teacher-no-config': (dict(teacher=dict(checkpoint='a')), 'needs a config and a checkpoint'),
    'teacher-config-number': (dict(teacher=dict(TEACHER, config=5)), 'config=5.*takes a string'),
    'teacher-checkpoint-list': (
        dict(teacher=dict(TEACHER, checkpoint=['a'])),
        'checkpoint=.*takes a string',
    ),
    'teacher-trust': (dict(teacher=dict(TEACHER, trust_checkpoint='no')), 'takes True or False'),
    'teacher-scale': (dict(teacher=dict(TEACHER, scale=0)), 'scale=0.*takes a number above 0'),
    'teacher-scale-text': (dict(teacher=dict(TEACHER, scale='2')), "scale='2'.*a number above 0"),
    'teacher-dtype': (dict(teacher=dict(TEACHER, dtype='int8')), "takes 'bfloat16' or 'float16'"),
    'teacher-option': (dict(teacher=dict(TEACHER, trust=True)), "no option 'trust'.*trust_checkp"),
    'teacher-name': (dict(points=named('big')), "no teacher of the name 'big'; there is a single"),
    'teachers-name': (dict(teacher=TWO, points=named('gib')), 'the teachers are big, wide'),
    'teachers-no-name': (
        dict(teacher=TWO, points=dict(p=POINT)),
        'say by teacher_name which teacher it learns from; the teachers are big, wide',
    ),
    'teachers-idle': (dict(teacher=TWO, points=named('big')), 'teacher.wide: nothing is learned'),
    'teachers-incomplete': (
        dict(teacher=dict(TWO, wide=dict(config='a')), points=named('big')),
        'teacher.wide=.*needs a config and a checkpoint',
    ),
    'teachers-option': (
        dict(teacher=dict(TWO, wide=dict(TEACHER, trust=True)), points=named('big')),
        "teacher.wide: .*no option 'trust'",
    ),
    'teachers-identifier': (
        dict(teacher={'two words': TEACHER}, points=named('two words')),
        'must be an identifier',
    ),
    'teachers-inherit': (dict(teacher=TWO, inherit=['neck']), r'of which teacher.*big=\['),
    'teachers-inherit-name': (
        dict(teacher=TWO, inherit=dict(gib=['neck'])),
        "inherit: there is no teacher of the name 'gib'; the teachers are big, wide",
    ),
    'tap-unknown': (dict(points=dict(p=dict(POINT, student='nek'))), "no module 'nek'.*neck"),
    'tap-empty': (dict(points=dict(p=dict(POINT, student=''))), 'no module'),
    'regions-unknown': (dict(points=dict(p=dict(POINT, regions='roi'))), "no module 'roi'"),
}


def build_point(cfg: object, name: object = 'fpn') -> None:
    DistillationPoint(PointOptions.from_config(name, cfg))


def build_distiller(options: dict) -> None:
    options = dict(dict(teacher=TEACHER, student=tiny.classifier()), **options)
    tiny.build(ConfigDict(type='diffkd_mm.Distiller', **options), 'mmpretrain')


def rows_of(where: str, table: list, act: Callable[[str, object], None], start: str) -> list[Row]:
    """A row for every wrong value, whose answer starts with the place and names the option."""
    return [
        Row(
            f'{where}-{option}-{i}',
            lambda folder, option=option, value=value: act(option, value),
            f'^{start}.*{option}=.*, but .*{sentence}',
        )
        for option, values, sentence in table
        for i, value in enumerate(values)
    ]


def rows() -> list[Row]:
    def of_part(option: str, value: object, part: str, cfg: dict) -> None:
        build_point(dict(POINT, **{part: dict(cfg, **{option: value})}))

    found = rows_of('point', OF_A_POINT, lambda k, v: build_point({**POINT, k: v}), "point 'fpn': ")
    for name, table, cfg in (('diffkd', OF_DIFFKD, DIFFKD), ('conv', OF_CONV, CONV)):
        act = functools.partial(of_part, part='connector', cfg=cfg)
        found += rows_of(name, table, act, "point 'fpn', connector: ")
    act = functools.partial(of_part, part='schedule', cfg={})
    found += rows_of('schedule', OF_SCHEDULE, act, "point 'fpn', schedule: ")
    for loss, cfg, option, values, sentence in OF_LOSSES:
        act = functools.partial(of_part, part='loss', cfg=dict(cfg, type=loss))
        found += rows_of(loss, [(option, values, sentence)], act, "point 'fpn', loss: ")
    found += rows_of('teacher-metric', METRIC_HOOK, lambda k, v: TeacherMetricHook(**{k: v}), '')
    found += rows_of('pictures', PICTURES, lambda k, v: PicturesHook(**{k: v}), '')
    found += rows_of('warm-start', HOOK, lambda k, v: WarmStartHook(**{'num_iters': 1, k: v}), '')
    found += [
        Row(f'name-{i}', lambda folder, name=name: build_point(POINT, name), f'point .*{why}')
        for i, (name, why) in enumerate(NAMES.items())
    ]
    found += [
        Row(f'config-{i}', lambda folder, cfg=cfg: build_point(cfg), f"point 'fpn'.*{sentence}")
        for i, (cfg, sentence) in enumerate(UNKNOWN)
    ]
    found += [
        Row(f'distiller-{name}', lambda folder, o=options: build_distiller(o), sentence)
        for name, (options, sentence) in DISTILLERS.items()
    ]
    return found


ROWS = rows()
