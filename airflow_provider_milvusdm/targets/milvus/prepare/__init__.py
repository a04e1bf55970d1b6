"""Prepare a target: decide what to do, create what is missing, or refuse before anything is changed."""
