"""Trainings that wait for a device and run on their own: one after another, known by files alone."""
