"""What tools/install.py is made of; it needs nothing but the standard library."""
