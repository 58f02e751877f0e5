"""Long jobs say how far they are."""

from diffkd_mm import progress


def test_every_ten_seconds_with_the_time_that_is_left(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
    lines = []
    told = progress.Progress(40, 'images', lines.append)
    for number, seconds in ((1, 6), (1, 6), (1, 6), (17, 42), (20, 40)):
        now[0] += seconds
        told.add(number)
    assert lines == ['2 of 40 images, eta 0:03:48', '20 of 40 images, eta 0:01:00']


def test_items_of_several_rounds_count_together(monkeypatch):
    monkeypatch.setattr(progress, 'EVERY', 0)
    lines = []
    told = progress.Progress(4, 'batches', lines.append)
    assert [list(told.over('ab')) for _ in range(2)] == [['a', 'b']] * 2
    assert [line.split(',')[0] for line in lines] == [f'{i} of 4 batches' for i in (1, 2, 3)]
