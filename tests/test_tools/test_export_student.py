"""An exported student: its name, that it is checked, and what runs it."""

import hashlib
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from test_stock_inference import detection, distillation, saved

sys.path.insert(0, str(Path(__file__).parents[2] / 'tools' / 'model_converters'))

import export_student  # noqa: E402

from diffkd_mm.compat import TORCH  # noqa: E402

CLASSES = tuple('abcdefghij')


def segmentation(folder):
    cfg = distillation(tiny.segmentor(num_classes=10), 'mmseg', 'decode_head.conv_seg')
    load = dict(type='LoadImageFromFile')
    cfg.test_pipeline = [load, dict(type='PackSegInputs')]
    cfg.test_dataloader = dict(dataset=dict(pipeline=cfg.test_pipeline))
    cfg.visualizer = dict(type='SegLocalVisualizer', name='visualizer')
    return saved(folder, cfg)


def classification(folder):
    cfg = distillation(tiny.classifier(), 'mmpretrain', 'head.fc')
    cfg.test_dataloader = dict(
        dataset=dict(pipeline=[dict(type='LoadImageFromFile'), dict(type='PackInputs')])
    )
    return saved(folder, cfg)


KINDS = dict(mmdet=detection, mmseg=segmentation, mmpretrain=classification)


@pytest.fixture(scope='module', params=KINDS)
def exported(request, tmp_path_factory):
    """Package, the student in training, the file, and what was printed."""
    folder = tmp_path_factory.mktemp(request.param)
    *_, checkpoint, student = KINDS[request.param](folder)
    if request.param == 'mmseg':  # whose inferencer colours the classes
        palette = [[25 * i] * 3 for i in range(10)]
        content = torch.load(checkpoint)
        content['meta']['dataset_meta']['palette'] = palette
        torch.save(content, checkpoint)
    from contextlib import redirect_stdout
    from io import StringIO

    with redirect_stdout(StringIO()) as printed:
        export_student.main([checkpoint, str(folder / 'out' / 'student.pth')])
    (path,) = (folder / 'out').iterdir()
    return request.param, student.eval(), path, printed.getvalue()


def test_the_name_is_the_hash(exported):
    *_, path, printed = exported
    digest = hashlib.sha256(path.read_bytes()).hexdigest()[:8]
    assert path.name == f'student-{digest}.pth'
    assert f'sha256 {digest}' in printed and 'verified: it fits the' in printed
    assert torch.load(path, weights_only=True)['meta']['dataset_meta']['classes'] == CLASSES


def test_the_three_lines_that_are_printed_run(exported, tmp_path, monkeypatch):
    """The package's own inferencer, on a picture."""
    import cv2

    package, student, path, printed = exported
    lines = [line.strip() for line in printed.split('use it:\n')[1].splitlines()]
    assert len(lines) == 3
    monkeypatch.chdir(tmp_path)
    for name in ('image.jpg', 'image.png'):
        cv2.imwrite(name, np.zeros((64, 64, 3), np.uint8))
    *first, last = lines
    namespace = {}
    exec('\n'.join(first), namespace)
    result = eval(last, namespace)
    if package == 'mmdet':
        (scores,) = (x['scores'] for x in result['predictions'])
        model = namespace['inferencer'].model
        assert len(scores) > 0 and list((tmp_path / 'outputs').rglob('*.jpg'))
    elif package == 'mmseg':
        model = namespace['inferencer'].model
        assert result['predictions'].shape == (64, 64) and list((tmp_path / 'outputs').rglob('*'))
        assert model.dataset_meta['classes'] == CLASSES
    else:
        assert result[0]['pred_class'] in CLASSES
        return
    state = model.state_dict()
    assert all(torch.equal(state[key], value) for key, value in student.state_dict().items())


class Outputs(torch.nn.Module):
    """A model as exporters want it: an image in, tensors out."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, image):
        return tuple(_flat(self.model(image, mode='tensor')))


def _flat(output):
    if isinstance(output, torch.Tensor):
        return [output]
    return [tensor for item in output for tensor in _flat(item)]


def stock_model(package, path):
    """The exported student in its package's own class, with its weights."""
    content = torch.load(path, weights_only=True)
    cfg = Config.fromstring(content['meta']['cfg'], '.py')
    init_default_scope(package)
    model = tiny.build(cfg.model, package)
    model.load_state_dict(content['state_dict'], strict=True)
    return Outputs(model.eval())


def test_torchscript(exported, tmp_path):
    package, student, path, _ = exported
    model, image = stock_model(package, path), torch.rand(1, 3, 64, 64)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.jit.trace(model, torch.zeros(1, 3, 64, 64)).save(str(tmp_path / 'student.pt'))
        found = torch.jit.load(str(tmp_path / 'student.pt'))(image)
        expected = _flat(student(image, mode='tensor'))
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b)


def test_onnx(exported, tmp_path):
    """The graph computes what the student does."""
    onnx = pytest.importorskip('onnx')
    from onnx.reference import ReferenceEvaluator

    package, student, path, _ = exported
    model, image = stock_model(package, path), torch.rand(1, 3, 64, 64)
    file = str(tmp_path / 'student.onnx')
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        # The exporter that newer versions prefer needs one more package.
        options = dict(dynamo=False) if TORCH >= (2, 5) else {}
        torch.onnx.export(model, (torch.zeros_like(image),), file, **options)
    graph = onnx.load(file)
    onnx.checker.check_model(graph)
    found = ReferenceEvaluator(graph).run(None, {graph.graph.input[0].name: image.numpy()})
    with torch.no_grad():
        expected = _flat(student(image, mode='tensor'))
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        torch.testing.assert_close(torch.from_numpy(a), b, atol=1e-4, rtol=1e-3)


def call(*arguments):
    export_student.main([str(x) for x in arguments])


def test_a_name_is_kept_and_a_config_is_given(tmp_path, capsys):
    config, checkpoint, student = detection(tmp_path)
    content = torch.load(checkpoint)
    content['meta'] = {}
    torch.save(content, checkpoint)
    call(checkpoint, tmp_path / 'a.pth', '--keep-name')
    text = capsys.readouterr().out
    assert 'not verified: the checkpoint carries no config' in text and 'use it' not in text
    assert 'names no classes' in text
    call(checkpoint, tmp_path / 'b.pth', '--keep-name', '--config', config)
    text = capsys.readouterr().out
    assert f'verified: it fits the RetinaNet of {config}, strictly' in text
    assert f'DetInferencer(weights={str(tmp_path / "b.pth")!r})' in text
    assert 'cfg' in torch.load(tmp_path / 'b.pth')['meta']


def test_weights_that_do_not_fit_are_not_written(tmp_path):
    config, checkpoint, _ = detection(tmp_path)
    content = torch.load(checkpoint)
    del content['state_dict']['bbox_head.retina_reg.bias']
    torch.save(content, checkpoint)
    with pytest.raises(SystemExit, match='do not fit the student.*Missing key.*retina_reg.bias'):
        call(checkpoint, tmp_path / 'out' / 'student.pth')
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('os.system', "its config names 'os.system', which is not run"),
        ('NoSuchNet', 'its model cannot be built'),
    ],
)
def test_a_checkpoints_config_builds_no_function(tmp_path, capsys, kind, message):
    _, checkpoint, _ = detection(tmp_path)
    content = torch.load(checkpoint)
    marker = tmp_path / 'ran'
    model = dict(type='diffkd_mm.Distiller', student=dict(type=kind, command=f'touch {marker}'))
    model['points'] = {}
    content['meta']['cfg'] = Config(dict(model=model)).pretty_text
    torch.save(content, checkpoint)
    call(checkpoint, tmp_path / 'student.pth')
    assert f'not verified: {message}' in capsys.readouterr().out
    assert not marker.exists()


def test_a_place_that_cannot_be_written(tmp_path):
    _, checkpoint, _ = detection(tmp_path)
    (tmp_path / 'file').write_text('')
    with pytest.raises(SystemExit, match='could not be written.*choose another place'):
        call(checkpoint, tmp_path / 'file' / 'student.pth')
