"""What ``python -m rudder.distill`` makes the embedded model from."""
