"""What fadeout is measured against."""
