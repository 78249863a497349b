"""Clips, the store file that holds them, and their splits into training and test."""
