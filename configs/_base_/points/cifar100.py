"""What DiffKD compares in a classifier of 100 classes, see ``classifier.py``."""

_base_ = './classifier.py'

logits = dict(connector=dict(student_channels=100, teacher_channels=100))
