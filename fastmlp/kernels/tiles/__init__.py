"""Blocks of registers and their arithmetic."""
