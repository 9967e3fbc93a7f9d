"""What is said about a built image, and who vouches for it?"""
