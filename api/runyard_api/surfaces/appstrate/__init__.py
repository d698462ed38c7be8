"""appstrate: start runs and look after them; agents as packages with versions (docs/fronts/appstrate.md)."""
