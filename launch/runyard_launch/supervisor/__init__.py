"""The processes of one machine: what there is to start, how it is kept running, and how it ends."""
