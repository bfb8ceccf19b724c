"""The virtual bench: silicon, programmers and firmware with which the real program runs without hardware."""
