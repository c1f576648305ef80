"""Trainings: their data, their epochs, what they warn of."""
