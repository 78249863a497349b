"""The synthetic dataset: performers, actions and sensors that are simulated."""
