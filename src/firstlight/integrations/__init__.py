"""Other libraries: a file each, which imports its library, so nothing here is imported before it is asked for.

`arrays.py` is what they share: initializers by name for libraries that store their weights as (in, out).
"""
