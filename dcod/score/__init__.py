"""What the student thinks of the traces: log-probs and entropies in parts that a killed run keeps."""
