"""HTML reports, and figures of skeletons, graphs and runs."""
