"""ZeroMQ bridge between a generator process and whoever plays, learns or watches."""
