"""What keeps a run from harming others in its process: who executes, whose thread it is, whether the loop is free."""
