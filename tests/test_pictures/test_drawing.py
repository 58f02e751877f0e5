"""The drawings say what their tensors hold."""

import numpy as np
import pytest
import torch

from diffkd_mm.pictures import (
    draw_features,
    draw_noise_weights,
    draw_saliency,
    draw_scores,
    pixels,
    saliency,
    save,
)

IMAGES = [np.full((24, 32, 3), 80 * i, np.uint8) for i in range(2)]


def test_saliency_has_mean_one_and_is_where_the_feature_is():
    feature = torch.zeros(1, 2, 3, 4)
    feature[0, :, 1, 2] = 1.0
    found = saliency(feature)
    assert found.mean().item() == pytest.approx(1)
    assert found[0, 1, 2] / found[0, 0, 0] == pytest.approx(np.exp(1 / 0.5))


def test_a_row_per_image_and_a_column_per_feature():
    features = dict(student=torch.randn(2, 3, 6, 8), teacher=torch.randn(2, 5, 6, 8))
    axes = draw_saliency(IMAGES, features).axes
    assert [axis.get_title() for axis in axes] == ['image', 'student', 'teacher', '', '', '']
    np.testing.assert_array_equal(axes[3].images[0].get_array(), IMAGES[1])
    np.testing.assert_allclose(axes[5].images[0].get_array(), saliency(features['teacher'])[1])


def test_scores_are_those_of_the_teachers_top_classes():
    logits = dict(
        student=torch.tensor([[0.0, 1, 2, 3], [3, 2, 1, 0]]),
        teacher=torch.tensor([[9.0, 0, 8, 7], [0, 7, 9, 8]]),
    )
    axes = draw_scores(IMAGES, logits, ['ant', 'bee', 'cat', 'dog']).axes
    labels = [[x.get_text() for x in axis.get_yticklabels()] for axis in axes[1::2]]
    assert labels == [['ant', 'cat', 'dog'], ['cat', 'dog', 'bee']]
    student, teacher = axes[1].containers
    assert student.get_label() == 'student'
    expected = logits['student'][0].softmax(0)[[0, 2, 3]].tolist()
    assert [bar.get_width() for bar in student] == pytest.approx(expected)
    # The first source is drawn above the second: the axis points down.
    assert student[0].get_y() < teacher[0].get_y() and axes[1].yaxis_inverted()


def test_the_histogram_counts_all_samples():
    weights = {'level 0': np.full(30, 0.95), 'level 1': np.linspace(0.2, 0.99, 10)}
    history = [(10, {'level 0': 0.9, 'level 1': 0.5}), (20, {'level 0': 0.95, 'level 1': 0.6})]
    left, right = draw_noise_weights(weights, history).axes
    assert sorted(x.get_text() for x in left.get_legend().get_texts()) == [
        'level 0, mean 0.950',
        'level 1, mean 0.595',
    ]
    for patch in left.patches:  # outlines: each value once up and once down
        heights = dict(patch.get_xy())
        assert sum(heights.values()) == pytest.approx(1)
    assert [list(line.get_ydata()) for line in right.lines] == [[0.9, 0.95], [0.5, 0.6]]
    assert len(draw_noise_weights(weights, history[:1]).axes) == 1


def test_the_kind_of_picture_follows_from_the_tensors():
    maps = dict(student=[torch.randn(2, 3, 4, 4)] * 2, teacher=[torch.randn(2, 3, 4, 4)] * 2)
    assert draw_features(IMAGES, maps, level=7)[0] == 'saliency'
    vectors = dict(student=[torch.randn(2, 3)], teacher=[torch.randn(2, 3)])
    assert draw_features(IMAGES, vectors, classes='abc')[0] == 'scores'
    assert draw_features(IMAGES, vectors)[0] == 'scores'
    assert draw_features(IMAGES, vectors, classes='ab') is None


def test_a_figure_as_an_array_and_as_a_file(tmp_path):
    figure = draw_saliency(IMAGES, dict(student=torch.randn(2, 3, 6, 8)))
    image = pixels(figure)
    assert image.dtype == np.uint8 and image.shape[2] == 3 and image.std() > 10
    save(figure, tmp_path / 'new/picture.png')
    assert (tmp_path / 'new/picture.png').read_bytes()[:4] == b'\x89PNG'
