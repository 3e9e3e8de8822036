"""What many trainers would move, from traces of a sample of them."""
