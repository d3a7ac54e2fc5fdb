"""The machinery behind the notebooks: execute them, check their outputs, measure them, render them as pages.

It never touches what a notebook teaches. `notebooks/build.py` is the command; `make tutorial` runs it.
"""
