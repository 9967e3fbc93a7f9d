"""What root in a container tries on the rest of the seat. Runs there, packed into one file (../pack.py).

Only Python's standard library, and nothing of ``builder``: it is run by the Python of the environment.
"""
