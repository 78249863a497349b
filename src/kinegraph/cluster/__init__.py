"""Cluster jobs: the functions of one machine, mapped over shards by Ray."""
