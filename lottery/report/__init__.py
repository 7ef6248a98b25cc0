"""The report of a study: its content, and HTML, Markdown, LaTeX and JSON of it.

`content` collects sections, tables and figures in plain values; `html` (with `templates/` and the figures of `svg`),
`markdown`, `latex` and `json_document` each make one format of them; `export` calls these and writes the folder.
"""
