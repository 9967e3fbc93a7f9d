"""What a person and a CI server read after a boot test: a page with pictures, and JUnit XML."""
