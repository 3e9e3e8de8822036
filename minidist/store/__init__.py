"""The store: a partition directory, and the feature rows of any node, wherever they are."""
