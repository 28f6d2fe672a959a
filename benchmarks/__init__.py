"""Measurements that are run by hand; nothing here ships."""
