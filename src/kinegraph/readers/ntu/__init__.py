"""Reader, parsers and body selection of NTU RGB+D recordings."""
