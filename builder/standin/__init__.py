"""What is there to install from when no mirror can be reached? (docs/standin.md)"""
