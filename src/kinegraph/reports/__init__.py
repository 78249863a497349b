"""What people look at: pictures of skeletons, graphs and runs, and the report of a run."""
