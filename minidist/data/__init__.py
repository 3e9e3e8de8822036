"""Graphs: where they come from, and the checks that every one passes."""
