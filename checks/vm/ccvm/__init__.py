"""Boots Debian guests in QEMU and runs the scenarios of checks/ in them. See checks/README.md."""
