"""A virtual PC that a test boots, types at, looks at and unplugs things from.

``machine`` holds the verbs a test uses; everything else serves it.
"""
