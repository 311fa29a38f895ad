"""Wrong inputs, and what the user is told of each: `README.md` says how a case is written."""
