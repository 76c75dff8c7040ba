"""Side-by-side studies of accuracy and speed; results are committed with their date and machine."""
