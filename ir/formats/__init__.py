"""Readers and writers of model files, apart from the data model."""
