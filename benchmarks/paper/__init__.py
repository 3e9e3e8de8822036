"""The paper's evaluation: one table of its figures and tables (``exhibits``), and their running."""
