"""Tests of the emulator, written from the protocol document."""
