"""Files that `runyard init` writes: see `new_project`."""
