"""What results mean, as numbers. Nothing is drawn here."""
