"""`lottery board`: a local page on a store, which shows what runs and what came out and changes nothing."""
