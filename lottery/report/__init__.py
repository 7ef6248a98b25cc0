"""The report of a study: its content, and HTML, Markdown, LaTeX and JSON of it."""
