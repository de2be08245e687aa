"""What a GPU lent for half an hour should settle, measured by one command that keeps to its time."""
