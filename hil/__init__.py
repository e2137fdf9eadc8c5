"""The bench: judges the product from outside, through its command-line tools."""
