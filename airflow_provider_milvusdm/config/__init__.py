"""Params of each job, checked."""
