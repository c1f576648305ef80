"""Networks as others read them."""
