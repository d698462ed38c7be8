"""Schedulers: any number of processes that do the chores of time, without a leader."""
