"""Runs of all kinds, disturbed at random, again and again: what must not grow meanwhile, and what must not stay."""
