"""The digits set: what it shows, and when it is written."""

import json
import multiprocessing
import sys

import cv2
import numpy as np
import pytest

import diffkd_mm  # noqa: F401
from diffkd_mm.datasets import digits, digits_drawing
from diffkd_mm.datasets.digits import DigitsDataset, load_digit_samples, make_digits
from diffkd_mm.datasets.digits_drawing import compose_image

# Digit, x, y, width and height of all there is on the first two images.
EXPECTED = {
    'train': [
        *((5, 88, 71, 19, 32), (6, 69, 25, 29, 42), (2, 29, 39, 19, 23), (6, 100, 67, 21, 35)),
        *((3, 38, 78, 28, 31), (8, 76, 36, 22, 42), (6, 65, 69, 16, 22), (6, 99, 90, 19, 33)),
    ],
    'val': [
        *((9, 62, 64, 14, 21), (5, 50, 77, 21, 27), (7, 38, 57, 16, 27), (4, 96, 26, 14, 21)),
        *((0, 82, 53, 15, 23), (7, 60, 98, 20, 28), (1, 18, 52, 14, 22), (3, 34, 14, 29, 38)),
    ],
}


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


@pytest.mark.parametrize(
    'change', [dict(split='val'), dict(split='tune'), dict(split='test'), dict(seed=1)]
)
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


def test_tune_and_test_divide_the_handwritten_digits_of_val():
    tune, test, val = (load_digit_samples(split) for split in ('tune', 'test', 'val'))
    for first, second, both in zip(tune, test, val, strict=True):
        np.testing.assert_array_equal(np.concatenate([first, second]), both)
    assert abs(len(tune[1]) - len(test[1])) <= 1
    assert {ink.tobytes() for ink in tune[0]}.isdisjoint(ink.tobytes() for ink in test[0])
    assert set(tune[1]) == set(test[1]) == set(range(10))


def test_each_split_has_a_generator_of_its_own(tmp_path, monkeypatch):
    """Else the same backgrounds and places would come with other digits."""
    drawn = []

    def record(rng, *arguments):
        drawn.append(rng.random())
        return compose_image(rng, *arguments)

    monkeypatch.setattr(digits, 'compose_image', record)
    for split in digits.NUM_IMAGES:
        make_digits(tmp_path, split, num_images=2)
    assert len(set(drawn)) == len(drawn) == 8


@pytest.mark.parametrize('split', ['train', 'val'])
def test_train_and_val_stay_as_they_are(tmp_path, split):
    """Results are compared with those on sets that were made long ago."""
    folder = make_digits(tmp_path, split, num_images=2)
    truth = json.loads((folder / 'annotations.json').read_text())
    shown = np.array([(a['category_id'], *a['bbox']) for a in truth['annotations']])
    expected = np.array(EXPECTED[split])
    np.testing.assert_array_equal(shown[:, 0], expected[:, 0])
    # An edge can lie a pixel off with another version of OpenCV.
    np.testing.assert_allclose(shown[:, 1:], expected[:, 1:], atol=1)


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
                hidden = digits_drawing._covered(boxes[later], boxes[index : index + 1])[0]
                assert hidden <= digits_drawing.MAX_COVERED


def test_boxes_are_tight(monkeypatch):
    """On a plain image the painted pixels are those of the boxes, no more and no less."""
    painted = []
    paint = digits_drawing._paint

    def record(under, mask, colour):
        painted.append((under.shape[:2], mask))
        paint(under, mask, colour)

    monkeypatch.setattr(digits_drawing, '_paint', record)
    monkeypatch.setattr(digits_drawing, '_add_clutter', lambda rng, image: None)
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
    folder = make_digits(tmp_path, 'train', num_images=4)
    truth = json.loads((folder / 'annotations.json').read_text())
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
    assert not list(tmp_path.glob('val*'))


@pytest.mark.parametrize('change', [dict(num_images=3), dict(image_size=64), dict(seed=5)])
def test_other_arguments_make_a_set_beside(tmp_path, change):
    """A training that reads the first set keeps it while another makes its own."""
    arguments = dict(num_images=2, image_size=96, seed=0)
    first = make_digits(tmp_path, 'train', **arguments)
    before = contents(first)
    arguments.update(change)
    second = make_digits(tmp_path, 'train', **arguments)
    assert first != second and contents(first) == before
    assert contents(second) == contents(make_digits(tmp_path / 'new', 'train', **arguments))


def test_arguments_stand_in_the_folders_name(tmp_path, monkeypatch):
    monkeypatch.setitem(digits.NUM_IMAGES, 'train', 1)
    assert make_digits(tmp_path, 'train').name == 'train'
    assert make_digits(tmp_path, 'train', 1, 128, 0).name == 'train'
    assert make_digits(tmp_path, 'train', image_size=96).name == 'train-s96-n1-seed0'
    assert make_digits(tmp_path, 'train', num_images=2, seed=3).name == 'train-s128-n2-seed3'


def test_a_set_of_before_is_found_under_its_plain_name(tmp_path):
    folder = tmp_path / 'val'
    stamp = dict(version=digits.VERSION, split='val', num_images=400, image_size=128, seed=0)
    folder.mkdir()
    (folder / digits.STAMP).write_text(json.dumps(stamp))
    assert make_digits(tmp_path, 'val') == folder
    assert [path.name for path in folder.iterdir()] == [digits.STAMP]


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
    assert [p.name for p in tmp_path.iterdir()] == ['.train-s128-n1-seed0.lock']
    assert (make_digits(tmp_path, 'train', num_images=1) / digits.STAMP).exists()


def test_processes_that_start_together_share_one_set(tmp_path):
    context = multiprocessing.get_context('fork')
    with context.Pool(3) as pool:
        folders = pool.starmap(make_digits, [(tmp_path, 'train', 5)] * 3)
    (name,) = {folder.name for folder in folders}
    assert sorted(p.name for p in tmp_path.iterdir()) == [f'.{name}.lock', name]
    assert len(list((folders[0] / 'images').iterdir())) == 5


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (dict(split='dev'), "train, val, tune, test, got 'dev'"),
        (dict(split='val', num_images=0), 'num_images=0'),
        (dict(split='val', image_size=32), 'image_size=32'),
    ],
)
def test_impossible_arguments_are_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_digits(tmp_path, **arguments)
