"""A suite's report: what `data` reads of a store, as a page (`page`) and as Markdown and LaTeX (`text`)."""
