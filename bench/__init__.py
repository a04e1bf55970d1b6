"""How fast the parts are, and how much memory they take; run by `make bench`."""
