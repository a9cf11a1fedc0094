"""Reports: what a pipeline did, as tables, JSON and pages."""
