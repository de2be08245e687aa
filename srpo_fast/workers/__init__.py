"""Calls in processes that can be killed."""
