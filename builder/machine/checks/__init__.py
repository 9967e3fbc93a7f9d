"""What a boot test asks of a booted seat: a function each, run by pytest (docs/boot-tests.md)."""
