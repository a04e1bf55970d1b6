"""Make a target ready: decide, create, or refuse before anything is touched."""
