"""The zip for the Cityscapes server, of predictions that are made up."""

import io
import zipfile

import numpy as np
import pytest
import torch
from mmengine.evaluator import Evaluator
from mmengine.structures import BaseDataElement, PixelData
from PIL import Image

import diffkd_mm  # noqa: F401  registers the metric

# The benchmark's table of its 19 classes, road to bicycle.
LABEL_IDS = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]


def sample(frame, classes):
    data = BaseDataElement(metainfo=dict(img_path=f'/data/test/berlin/{frame}_leftImg8bit.png'))
    data.pred_sem_seg = PixelData(data=classes)
    return data


def test_pictures_of_label_ids_under_the_names_of_the_frames(tmp_path):
    path = tmp_path / 'folder' / 'predictions.zip'
    evaluator = Evaluator(dict(type='diffkd_mm.CityscapesTestZip', path=str(path)))
    row = torch.arange(19).expand(1, 4, 19)
    evaluator.process([sample('berlin_000000_000019', row)])
    evaluator.process([sample('berlin_000001_000019', row.flip(2))])
    assert evaluator.evaluate(2) == {'cityscapes_test/images': 2}
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == [
            'berlin_000000_000019_leftImg8bit.png',
            'berlin_000001_000019_leftImg8bit.png',
        ]
        pictures = [Image.open(io.BytesIO(archive.read(x))) for x in archive.namelist()]
    assert all(picture.mode == 'L' and picture.size == (19, 4) for picture in pictures)
    assert np.array_equal(pictures[0], [LABEL_IDS] * 4)
    assert np.array_equal(pictures[1], [LABEL_IDS[::-1]] * 4)


def test_images_that_fill_up_the_last_batch_are_left_out(tmp_path):
    path = tmp_path / 'predictions.zip'
    evaluator = Evaluator(dict(type='diffkd_mm.CityscapesTestZip', path=str(path)))
    blank = torch.zeros(1, 2, 2, dtype=torch.long)
    evaluator.process([sample('a', blank), sample('b', blank), sample('a', blank)])
    evaluator.evaluate(2)
    assert len(zipfile.ZipFile(path).namelist()) == 2


def test_bad_input_is_named(tmp_path):
    with pytest.raises(ValueError, match='must end with .zip'):
        Evaluator(dict(type='diffkd_mm.CityscapesTestZip', path=str(tmp_path / 'predictions')))
    path = tmp_path / 'predictions.zip'
    evaluator = Evaluator(dict(type='diffkd_mm.CityscapesTestZip', path=str(path)))
    with pytest.raises(ValueError, match='class 19 .*berlin_000000_000019.* 19 classes'):
        evaluator.process([sample('berlin_000000_000019', torch.full((1, 2, 2), 19))])
