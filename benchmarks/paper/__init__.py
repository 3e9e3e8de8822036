"""The paper's evaluation as commands: a module for each figure and table that its text tells of."""
