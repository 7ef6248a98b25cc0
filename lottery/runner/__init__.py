"""Running a plan: where each job starts, its training, its resumption, and what is checked before."""
