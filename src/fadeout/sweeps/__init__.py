"""Many runs: surveyed, cut into chunks, trained here or by workers, and stored."""
