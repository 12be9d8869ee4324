"""Many runs: jobs that survive a kill, and a search over several objectives."""
