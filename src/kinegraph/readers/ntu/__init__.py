"""NTU RGB+D recordings."""
