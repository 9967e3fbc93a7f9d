"""How do images reach others, and what differs between two of them?"""
