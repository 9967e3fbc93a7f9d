"""How does a seat's disk come to be without root and device-mapper? Its byte formats, and their writers."""
