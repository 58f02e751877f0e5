"""Three splits of two folders."""

import cv2
import numpy as np
import pytest

from diffkd_mm.datasets.folders import SplitFolders


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    for split, numbers in (('train', (25, 12)), ('test', (3, 2))):
        for name, number in zip(('cat', 'dog'), numbers):
            (root / split / name).mkdir(parents=True)
            for i in range(number):
                image = np.zeros((4, 4, 3), np.uint8)
                cv2.imwrite(str(root / split / name / f'{i:04d}.png'), image)
    return root


def names(root, split):
    dataset = SplitFolders(str(root), split)
    return {
        ('/'.join(x['img_path'].split('/')[-3:]), x['gt_label'])
        for x in (dataset.get_data_info(i) for i in range(len(dataset)))
    }


def test_every_tenth_image_of_a_class_is_for_tuning(root):
    tune = {(f'train/cat/{i:04d}.png', 0) for i in (0, 10, 20)}
    tune |= {(f'train/dog/{i:04d}.png', 1) for i in (0, 10)}
    assert names(root, 'tune') == tune
    train = names(root, 'train')
    assert len(train) == 37 - 5 and not train & tune


def test_test_images_are_those_of_their_folder(root):
    test = {(f'test/cat/{i:04d}.png', 0) for i in range(3)}
    assert names(root, 'test') == test | {(f'test/dog/{i:04d}.png', 1) for i in range(2)}


def test_unknown_split(root):
    with pytest.raises(ValueError, match="one of train, tune, test, got 'val'"):
        SplitFolders(str(root), 'val')
