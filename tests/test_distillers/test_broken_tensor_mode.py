"""Models whose own ``mode='tensor'`` is broken are run as for predicting."""

import pytest
import tiny
import torch

from diffkd_mm.configs import load_config
from diffkd_mm.errors import DistillationError
from diffkd_mm.taps import Tap, run_to_taps

SIZE = (64, 64)


def segmentor():
    return dict(
        type='EncoderDecoder',
        _scope_='mmseg',
        data_preprocessor=dict(type='SegDataPreProcessor', size=SIZE),
        backbone=dict(
            type='ResNetV1c', depth=18, base_channels=8, stem_channels=8, norm_cfg=dict(type='BN')
        ),
        decode_head=dict(type='FCNHead', in_channels=64, channels=8, num_convs=1, num_classes=19),
        test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(32, 32)),
    )


def break_tensor_mode(model, monkeypatch, everything=False):
    """As in SAN: the head is called without what it needs, after a part of the model has run."""
    calls = []

    def broken(inputs, data_samples=None):
        calls.append('tensor')
        model.decode_head(model.extract_feat(inputs))
        raise TypeError("forward() missing 1 required positional argument: 'embeddings'")

    monkeypatch.setattr(model, '_forward', broken)
    # What is run for taps in a head that needs more than features.
    monkeypatch.setattr('diffkd_mm.taps.families._is_dense_head', lambda model, head: False)
    if everything:
        monkeypatch.setattr(model, 'encode_decode', lambda *args: 1 / 0)
    return calls


def point():
    tap = 'decode_head.conv_seg'
    return dict(student=tap, teacher=tap, loss=dict(type='KLDivLoss'))


def test_taps_are_recorded_once_for_whole_images(monkeypatch):
    """Neither what ran before it failed nor the parts of a sliding window are in the record."""
    model = tiny.build(segmentor(), 'mmseg').eval()
    data = tiny.labelled_pixels(SIZE)
    images = torch.rand(2, 3, *SIZE)
    before = [sample.all_keys() for sample in data['data_samples']]
    with torch.no_grad():
        tap = Tap('decode_head.conv_seg')
        expected = run_to_taps(model, [tap], images, data['data_samples'])[tap]
        calls = break_tensor_mode(model, monkeypatch)
        for _ in range(2):
            recorded = run_to_taps(model, [tap], images, data['data_samples'])[tap]
            assert len(recorded) == 1 and torch.equal(recorded[0][0], expected[0][0])
    assert calls == ['tensor']  # once it has failed it is not tried again
    assert [sample.all_keys() for sample in data['data_samples']] == before


def test_distils_by_config_alone(monkeypatch):
    model = tiny.build_distiller(segmentor(), segmentor(), dict(logits=point()), scope='mmseg')
    break_tensor_mode(model.teacher.model, monkeypatch)
    log = tiny.train_step(model, tiny.labelled_pixels(SIZE))
    assert log['logits.loss_kd'] > 0


def test_predicting_a_detector_leaves_the_data_samples_alone(monkeypatch):
    model = tiny.build(tiny.retinanet()).eval()
    monkeypatch.setattr(model, '_forward', lambda *args: 1 / 0)
    monkeypatch.setattr('diffkd_mm.taps.families._is_dense_head', lambda model, head: False)
    data = model.data_preprocessor(tiny.batch())
    before = [sample.all_keys() for sample in data['data_samples']]
    with torch.no_grad():
        records = run_to_taps(model, [Tap('bbox_head.retina_cls')], *data.values())
    assert [len(tensors) for tensors in records.values()] == [3]
    assert [sample.all_keys() for sample in data['data_samples']] == before


def test_neither_way_works(monkeypatch):
    """The message says which teacher, which point and what failed first."""
    model = tiny.build_distiller(segmentor(), segmentor(), dict(logits=point()), scope='mmseg')
    break_tensor_mode(model.teacher.model, monkeypatch, everything=True)
    with pytest.raises(
        DistillationError,
        match="point 'logits': teacher tap 'decode_head.conv_seg': the teacher, a EncoderDecoder, "
        "cannot be run .* TypeError: .*'embeddings'",
    ):
        model(**model.data_preprocessor(tiny.labelled_pixels(SIZE), True), mode='loss')


def san():
    """SAN with all widths small; its text encoder has the full vocabulary."""
    cfg = load_config('mmseg::_base_/models/san_vit-b16.py').model
    cfg.update(pretrained=None, _scope_='mmseg')
    cfg.data_preprocessor.update(size=SIZE, size_divisor=None)
    cfg.image_encoder.update(embed_dims=32, num_heads=2, mlp_ratio=1)
    cfg.text_encoder.update(
        embed_dims=16, num_layers=1, num_heads=2, mlp_ratio=1, output_dims=16, templates=['a {}']
    )
    cfg.text_encoder.cache_feature = False  # the weights are set after the first run
    cfg.text_encoder.vocabulary = [f'class {i}' for i in range(19)]
    head = cfg.decode_head
    head.num_classes = 19
    head.loss_decode[0].class_weight = [1.0] * 19 + [0.1]
    head.san_cfg.update(embed_dims=12, clip_channels=32, num_queries=10)
    head.san_cfg.cfg_encoder.update(num_heads=2, mlp_ratio=1)
    head.san_cfg.cfg_decoder.update(num_heads=2, embed_channels=16, mlp_channels=16)
    head.maskgen_cfg.update(sos_token_num=10, embed_dims=32, num_heads=2, mlp_ratio=1, out_dims=16)
    head.train_cfg.num_points = 64
    return cfg


@pytest.mark.families
def test_san():
    pixels = dict(
        student='decode_head.side_adapter_network.mask_decoder.pix_mlp',
        teacher='decode_head.side_adapter_network.mask_decoder.pix_mlp',
        student_levels=[-1],  # in training the decoder's layers before the last are supervised too
        connector=dict(type='ConvConnector', student_channels=16, teacher_channels=16),
        loss=dict(type='MSELoss'),
    )
    model = tiny.build_distiller(san(), san(), dict(pixels=pixels), scope='mmseg')
    for network in (model.student, model.teacher.model):
        for parameter in network.parameters():  # some are left as the memory was
            torch.nn.init.normal_(parameter, std=0.1)
    data = tiny.labelled_pixels(SIZE)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(pad_shape=SIZE))
    log = tiny.train_step(model, data, part='decode_head')
    assert log['pixels.loss_kd'] > 0
