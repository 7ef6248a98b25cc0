"""Tables of any view as text, Markdown, LaTeX, CSV, JSON and Parquet."""
