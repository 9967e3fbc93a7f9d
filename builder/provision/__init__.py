"""How does a bare PC become a seat, and how is one environment replaced while the others stay?"""
