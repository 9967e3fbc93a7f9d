"""Does no environment reach another's keyboard, screen, sound, data and the kernel? It is tried."""
