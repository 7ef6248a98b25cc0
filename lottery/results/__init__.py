"""Records of finished jobs, their artifacts, and a study: a recipe with what is finished of it."""
