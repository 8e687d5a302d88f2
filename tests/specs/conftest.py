"""Specs in this folder are read by tests, never measured."""

collect_ignore_glob = ["*"]
