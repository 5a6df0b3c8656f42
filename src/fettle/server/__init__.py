"""The server over a folder of runs: JSON, binary curves, one live stream a page, and the page itself."""
