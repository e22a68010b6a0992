"""Measurements that are run by hand; each prints its table and how to make it again."""
