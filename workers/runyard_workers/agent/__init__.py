"""What an agent needs to run: the loop over its model, its tools, and the files it is given."""
