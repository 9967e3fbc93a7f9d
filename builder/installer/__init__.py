"""The installer: a stick that boots, finds the signed images and provisions a seat (docs/installer.md)."""
