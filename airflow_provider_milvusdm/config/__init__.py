"""Params of the jobs: their models, how they are checked, and YAML files of them."""
