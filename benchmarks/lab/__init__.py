"""Hosts on one machine, and commands on them."""
