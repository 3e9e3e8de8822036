"""What many trainers move and how long their epochs take, from a sample of them and a few runs."""
