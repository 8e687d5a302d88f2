"""Authoring: what a person who writes specs is told and given before a model is asked.

Spec files come in; findings with source positions, a plan of the gate, starter
files and files in their canonical layout go out.  Nothing here opens a model.
"""
