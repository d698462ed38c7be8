"""The selftest: whether a deployment keeps its promises while something fails, tried with runs of its own.

`selftest` starts two workers and a scheduler, kills one of the workers, cuts the broker off, and looks at what becomes
of runs that are in an organisation of their own.
"""
