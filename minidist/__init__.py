"""minidist: compact distributed GNN training in pure PyTorch."""
