"""What DiffKD compares in a classifier of 10 classes, see ``classifier.py``."""

_base_ = './classifier.py'

logits = dict(connector=dict(student_channels=10, teacher_channels=10))
