"""What is written and shown while a model trains: callbacks, logs, bars, pictures, sums."""
