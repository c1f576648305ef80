"""Tables of numbers and categories: what becomes of their columns before a network sees them. Not public yet."""
