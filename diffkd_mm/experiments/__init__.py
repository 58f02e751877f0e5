"""Trainings to be compared: planned, run side by side, read from their logs, reported."""
