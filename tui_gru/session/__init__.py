"""A session: the verbs that move it, the questions that it answers, and how it is opened."""
