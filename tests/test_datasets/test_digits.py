"""The digits set: what it shows, and when it is written."""

import json
import multiprocessing
import sys

import cv2
import numpy as np
import pytest

import diffkd_mm  # noqa: F401
from diffkd_mm.datasets import digits
from diffkd_mm.datasets.digits import DigitsDataset, compose_image, load_digit_samples, make_digits


def contents(folder):
    """Every file of a split by its name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob('*'))
        if path.is_file()
    }


def test_the_same_arguments_give_the_same_files(tmp_path):
    first = contents(make_digits(tmp_path / 'a', 'train', num_images=3))
    second = contents(make_digits(tmp_path / 'b', 'train', num_images=3))
    assert len(first) == 5 and first == second


@pytest.mark.parametrize('change', [dict(split='val'), dict(seed=1)])
def test_split_and_seed_change_the_pictures(tmp_path, change):
    arguments = dict(split='train', num_images=1)
    first = make_digits(tmp_path / 'a', **arguments)
    second = make_digits(tmp_path / 'b', **{**arguments, **change})
    name = 'images/00000.jpg'
    assert (first / name).read_bytes() != (second / name).read_bytes()


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    small = contents(make_digits(tmp_path / 'small', 'val', num_images=2))
    large = contents(make_digits(tmp_path / 'large', 'val', num_images=4))
    for name in ('images/00000.jpg', 'images/00001.jpg'):
        assert small[name] == large[name]


def test_training_and_validation_share_no_handwritten_digit():
    def samples(split):
        return {sample.tobytes() for sample in load_digit_samples(split)[0]}

    train, val = samples('train'), samples('val')
    assert train.isdisjoint(val)
    assert len(train) > 2 * len(val) > 500
    for split in ('train', 'val'):
        ink, labels = load_digit_samples(split)
        assert ink.shape == (len(labels), 8, 8) and 0 <= ink.min() < ink.max() <= 1
        assert set(labels) == set(range(10))


@pytest.mark.parametrize('image_size', [64, 128])
def test_boxes_lie_in_the_image_and_hold_the_digit(image_size):
    samples, labels = load_digit_samples('train')
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, boxes, shown = compose_image(rng, samples, labels, image_size)
        assert image.shape == (image_size, image_size, 3) and image.dtype == np.uint8
        assert len(boxes) == len(shown) >= 1
        sides = boxes[:, 2:] - boxes[:, :2]
        assert (boxes >= 0).all() and (boxes <= image_size).all() and (sides > 2).all()
        # No digit is hidden more than it may be by a later one.
        for index in range(len(boxes)):
            for later in range(index + 1, len(boxes)):
                hidden = digits._covered(boxes[later], boxes[index : index + 1])[0]
                assert hidden <= digits.MAX_COVERED


def test_boxes_are_tight(monkeypatch):
    """On a plain image the painted pixels are those of the boxes, no more and no less."""
    painted = []
    paint = digits._paint

    def record(under, mask, colour):
        painted.append((under.shape[:2], mask))
        paint(under, mask, colour)

    monkeypatch.setattr(digits, '_paint', record)
    monkeypatch.setattr(digits, '_add_clutter', lambda rng, image: None)
    samples, labels = load_digit_samples('train')
    _, boxes, _ = compose_image(np.random.default_rng(0), samples, labels)
    assert len(painted) == len(boxes)
    for (shape, mask), (x1, y1, x2, y2) in zip(painted, boxes.tolist(), strict=True):
        assert shape == (y2 - y1, x2 - x1)
        opaque = mask > mask.max() / 2
        for edge in (opaque[0], opaque[-1], opaque[:, 0], opaque[:, -1]):
            assert edge.any()


def test_the_set_loads_as_coco(tmp_path):
    dataset = DigitsDataset(data_root=str(tmp_path), split='train', num_images=4)
    assert len(dataset) == 4
    assert dataset.metainfo['classes'] == tuple('0123456789')
    assert len(dataset.metainfo['palette']) == 10
    truth = json.loads((tmp_path / 'train/annotations.json').read_text())
    assert all(annotation['id'] > 0 for annotation in truth['annotations'])
    for index in range(4):
        info = dataset.get_data_info(index)
        assert cv2.imread(info['img_path']).shape == (info['height'], info['width'], 3)
        expected = [a for a in truth['annotations'] if a['image_id'] == info['img_id']]
        assert [i['bbox_label'] for i in info['instances']] == [a['category_id'] for a in expected]
        for instance, annotation in zip(info['instances'], expected, strict=True):
            x, y, width, height = annotation['bbox']
            assert instance['bbox'] == [x, y, x + width, y + height]


def test_the_set_is_written_once(tmp_path, monkeypatch):
    folder = make_digits(tmp_path, 'train', num_images=2)
    before = (folder / 'annotations.json').stat().st_mtime_ns
    # scikit-learn is needed to write, not to read
    monkeypatch.setitem(sys.modules, 'sklearn.datasets', None)
    assert make_digits(tmp_path, 'train', num_images=2) == folder
    assert (folder / 'annotations.json').stat().st_mtime_ns == before
    with pytest.raises(ImportError, match='pip install scikit-learn'):
        make_digits(tmp_path, 'val', num_images=2)
    assert not (tmp_path / 'val').exists()


@pytest.mark.parametrize('change', [dict(num_images=3), dict(image_size=64), dict(seed=5)])
def test_other_arguments_replace_the_set(tmp_path, change):
    arguments = dict(num_images=2, image_size=96, seed=0)
    make_digits(tmp_path, 'train', **arguments)
    arguments.update(change)
    folder = make_digits(tmp_path, 'train', **arguments)
    assert contents(folder) == contents(make_digits(tmp_path / 'new', 'train', **arguments))
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.train.lock', 'new', 'train']


def test_another_version_replaces_the_set(tmp_path, monkeypatch):
    stamp = make_digits(tmp_path, 'train', num_images=1) / digits.STAMP
    monkeypatch.setattr(digits, 'VERSION', digits.VERSION + 1)
    make_digits(tmp_path, 'train', num_images=1)
    assert json.loads(stamp.read_text())['version'] == digits.VERSION


def test_a_set_that_was_cut_short_is_never_seen(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(digits.cv2, 'imencode', fail)
        with pytest.raises(KeyboardInterrupt):
            make_digits(tmp_path, 'train', num_images=1)
    assert [p.name for p in tmp_path.iterdir()] == ['.train.lock']
    assert (make_digits(tmp_path, 'train', num_images=1) / digits.STAMP).exists()


def test_processes_that_start_together_share_one_set(tmp_path):
    context = multiprocessing.get_context('fork')
    with context.Pool(3) as pool:
        folders = pool.starmap(make_digits, [(tmp_path, 'train', 5)] * 3)
    assert len(set(folders)) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ['.train.lock', 'train']
    assert len(list((folders[0] / 'images').iterdir())) == 5


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(split='test'), "train, val, got 'test'"),
        (dict(split='val', num_images=0), 'num_images=0'),
        (dict(split='val', image_size=32), 'image_size=32'),
    ],
)
def test_impossible_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_digits(tmp_path, **arguments)
