"""The outside world, one thing per file: each adapter turns one library or kernel interface into a port of the station."""
