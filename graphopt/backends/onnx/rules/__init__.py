"""Rules of legalisation, by family of operators."""
