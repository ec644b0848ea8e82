"""Values at the edges of every column type, and what a server must have of them after a load.

`given` says what a value is; `numbers`, `times`, `texts` and `arrays` make values for each column
type; `sources` puts them into each kind of source; `oracle` asks the server what it would store,
and judges what a load did.
"""
