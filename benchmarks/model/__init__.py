"""A model of an epoch's time, checked against measured runs."""
