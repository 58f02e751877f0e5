"""The frozen teacher compiled: the same taps for any size of image, and never worse than before."""

import shutil
from collections import Counter
from copy import deepcopy

import pytest
import tiny
import torch
from test_teacher_speed import Net, shuffled, taps_of
from torch import nn

from diffkd_mm.distillers import compilation, teacher_speed
from diffkd_mm.distillers.compilation import Compilation
from diffkd_mm.distillers.teacher_speed import TeacherRun
from diffkd_mm.errors import DistillationError

NEEDS_COMPILER = pytest.mark.skipif(
    shutil.which('g++') is None, reason='PyTorch compiles for the CPU with g++'
)


@pytest.fixture
def messages(monkeypatch):
    """What is logged about the compilation."""
    found = []
    for module in (compilation, teacher_speed):
        monkeypatch.setattr(module, 'print_log', lambda text, **_: found.append(text))
    return found


@pytest.fixture
def compiler(monkeypatch):
    """In the place of PyTorch's compiler one that counts calls, and does what a test says."""

    class Compiler:
        def __init__(self):
            self.calls = Counter()

        def change(self, output):
            return output

        def __call__(self, forward, dynamic):
            assert dynamic

            def compiled(*args):
                assert torch._inductor.config.freezing
                self.calls[forward.__self__] += 1
                return self.change(forward(*args))

            return compiled

    compiler = Compiler()
    monkeypatch.setattr(torch, 'compile', compiler)
    return compiler


def retinanet():
    return shuffled(tiny.build(tiny.retinanet()))


def layers():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())


def convolves(net, x):
    return net['layers'](x)


@pytest.mark.parametrize(
    ('tapped', 'expected'),
    [
        (['neck'], ['backbone', 'neck']),
        (['bbox_head.retina_reg'], ['backbone', 'neck']),
        (['backbone.layer2'], [*(f'backbone.layer{i}' for i in range(1, 5)), 'neck']),
        (
            ['backbone.layer4.0.conv2', 'neck.fpn_convs.0.conv'],
            [*(f'backbone.layer{i}' for i in range(1, 4)), 'neck.lateral_convs.0'],
        ),
    ],
)
def test_parts_have_no_tap_inside(compiler, tapped, expected):
    model = retinanet()
    found = Compilation(model, tapped, 'teacher')
    assert set(expected) <= set(found.paths())
    assert not any(tap.startswith(f'{path}.') for tap in tapped for path in found.paths())
    found.undo()
    assert not any('forward' in vars(module) for module in model.modules())


def test_what_is_compiled_runs_and_is_no_part_of_the_state(compiler, messages):
    model, images = retinanet(), torch.randn(2, 3, 64, 96)
    names = [*model.state_dict()]
    expected = taps_of(TeacherRun(), model, ['neck'], images)
    folded = [*model.state_dict()]
    run = TeacherRun(compile=True)
    for _ in range(2):
        found = taps_of(run, model, ['neck'], images)
        assert all(torch.equal(x, y) and x.is_contiguous() for x, y in zip(found, expected))
    assert compiler.calls == {model.backbone: 3, model.neck: 3}  # one more for the comparison
    assert names != folded == [*model.state_dict()]
    assert not torch._inductor.config.freezing
    assert any('backbone, neck is compiled' in x for x in messages)


def test_changed_taps_undo_it(compiler, messages):
    compiler.change = lambda output: tuple(1.01 * x for x in output)
    model, images = retinanet(), torch.randn(2, 3, 64, 96)
    expected = taps_of(TeacherRun(), model, ['neck'], images)
    for _ in range(2):
        found = taps_of(TeacherRun(compile=True), model, ['neck'], images)
        assert all(torch.equal(x, y) for x, y in zip(found, expected))
    assert 'forward' not in vars(model.backbone)
    assert 'compile=True changes its taps by 2e-02' in messages[-1]


def test_what_does_not_compile_runs_as_it_was(compiler, messages):
    """At once, or with images to come."""
    fails = [False, False, True]

    def change(output):
        if fails.pop(0):
            raise RuntimeError('no compiler\nmore')
        return output

    compiler.change = change
    model = Net(convolves, layers=layers()).eval().requires_grad_(False)
    run, images = TeacherRun(compile=True), torch.randn(2, 3, 8, 8)
    first, *others = (taps_of(run, model, ['neck'], images) for _ in range(4))
    assert all(torch.equal(first[0], x) for (x,) in others)
    assert not fails and compiler.calls.total() == 3
    assert messages[-1] == (
        'teacher: compile=True: its backbone.layers does not compile and runs as it was '
        '(RuntimeError: no compiler)'
    )


def test_a_copy_runs_its_own_weights(compiler):
    model = Net(convolves, layers=layers()).eval().requires_grad_(False)
    run, images = TeacherRun(compile=True), torch.randn(2, 3, 8, 8)
    (before,) = taps_of(run, model, ['neck'], images)
    copy = deepcopy(model)
    copy.backbone['layers'][0].bias += 1
    (after,), (unchanged,) = (taps_of(run, x, ['neck'], images) for x in (copy, model))
    assert torch.equal(unchanged, before) and not torch.equal(after, before)


def test_errors_of_the_model_are_its_own(compiler):
    model = Net(convolves, layers=layers()).eval().requires_grad_(False)
    run = TeacherRun(compile=True)
    taps_of(run, model, ['neck'], torch.randn(2, 3, 8, 8))
    with pytest.raises(RuntimeError, match='expected input'):
        taps_of(run, model, ['neck'], torch.randn(2, 5, 8, 8))


def test_nothing_to_compile(messages):
    model = Net(lambda net, x: net['conv'](x), conv=nn.Conv2d(3, 3, 1)).eval()
    taps_of(
        TeacherRun(compile=True), model.requires_grad_(False), ['neck'], torch.randn(2, 3, 8, 8)
    )
    assert 'compile=True finds nothing to compile' in messages[-1]


def test_option(teacher_checkpoint, compiler):
    config = tiny.distiller(teacher_checkpoint, points=dict(fpn=tiny.FPN_POINT))
    config['teacher']['compile'] = True
    model = tiny.build(config)
    model.init_weights()
    for _ in range(2):
        tiny.train_step(model, tiny.batch())
    assert compiler.calls[model.teacher.model.backbone] == 3
    config['teacher']['compile'] = 'yes'
    with pytest.raises(DistillationError, match="teacher.*compile='yes'"):
        tiny.build(config)


@pytest.mark.long
@NEEDS_COMPILER
@pytest.mark.parametrize('dtype', [None, 'bfloat16'])
def test_one_compilation_for_all_sizes(messages, dtype):
    """With PyTorch's compiler; a batch of one is a kind of its own."""
    torch.manual_seed(0)
    model = shuffled(Net(convolves, layers=layers())).requires_grad_(False)
    plain, run = deepcopy(model), TeacherRun(dtype, compile=True)
    statistics = torch._dynamo.utils.counters['stats']
    graphs = []
    for shape in [(2, 3, 8, 10), (2, 3, 12, 9), (3, 3, 16, 5), (5, 3, 7, 7), (1, 3, 6, 8)]:
        images = torch.randn(shape)
        (found,) = taps_of(run, model, ['neck'], images)
        with torch.no_grad():
            expected = plain.extract_feat(images)
        assert (found - expected).abs().max() <= (0.02 if dtype else 1e-4) * expected.abs().max()
        graphs.append(statistics['unique_graphs'])
    assert graphs[0] == graphs[3] <= graphs[4] <= graphs[0] + 1
    assert model.backbone['layers'].forward.works
    assert 'is compiled' in messages[-1]
