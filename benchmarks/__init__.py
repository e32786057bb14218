"""What Podium costs and how fast it is, measured with real servers. No test: a slow day fails
nobody's build."""
